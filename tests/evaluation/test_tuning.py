"""The search for settings: what is tried, what ends early, and what is best."""

from __future__ import annotations

import numpy as np
import pytest

from streamrec.evaluation.ablation import Outcome
from streamrec.evaluation.metrics import NOT_LISTED
from streamrec.evaluation.tuning import CHOICES, NOT_TRIED, PLAYED_WHOLE, tune

CURRENT = {
    "embedding_dim": 48,
    "sequence_length": 50,
    "micro_batch_events": 64,
    "admit_after": 1,
    "channels": "neighbour,popular,model,of-another-package",
}
EVENTS = 1_000


def outcome(share):
    """Return the outcome of lists of which this share is right at the first place."""
    ranks = np.where(np.arange(EVENTS) < share * EVENTS, 0, NOT_LISTED)
    return Outcome(ranks, np.arange(EVENTS), 0, 1.0)


def quality(values):
    """Return a quality that two settings decide."""
    return 0.2 + 0.3 * (values["micro_batch_events"] == 256) + 0.3 * ("linear" in values["channels"])


@pytest.fixture(scope="module")
def tried():
    def play(values, check):
        for comparison in range(1, 8):
            check(comparison, quality(values))
        return outcome(quality(values))

    return list(tune(CURRENT, play, trials=40, seed=0))


def test_the_first_trial_has_the_current_settings(tried):
    first = tried[0].values
    assert {**first, "channels": None} == {**CURRENT, "channels": None}
    assert set(first["channels"].split(",")) == set(CURRENT["channels"].split(","))


def test_trials_change_nothing_else(tried):
    for trial in tried:
        assert {*NOT_TRIED, "of-another-package"} <= set(trial.values["channels"].split(","))
        assert all(trial.values[name] in {*choices, CURRENT[name]} for name, choices in CHOICES.items())


def test_the_best_settings_are_found(tried):
    best = max(tried, key=lambda trial: trial.ndcg).values
    assert best["micro_batch_events"] == 256
    assert "linear" in best["channels"].split(",")


def test_what_is_worse_than_the_median_ends_early_once_a_few_are_known(tried):
    ended = [number for number, trial in enumerate(tried) if trial.outcome is None]
    assert ended
    assert min(ended) >= PLAYED_WHOLE
    assert all(quality(tried[number].values) < 0.8 for number in ended)


def test_a_search_can_be_repeated(tried):
    def play(values, check):
        for comparison in range(1, 8):
            check(comparison, quality(values))
        return outcome(quality(values))

    again = list(tune(CURRENT, play, trials=40, seed=0))
    assert [trial.values for trial in again] == [trial.values for trial in tried]
