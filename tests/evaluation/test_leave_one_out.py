from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from builders import sequences

from streamrec.evaluation.epochs import Fitting
from streamrec.evaluation.leave_one_out import LeaveOneOut, LeaveOneOutRanks, LeaveOneOutSettings
from streamrec.evaluation.metrics import NOT_LISTED
from streamrec.evaluation.sequences import Sequences
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Training

ITEMS = 20
SETTINGS = LeaveOneOutSettings(
    model=ModelConfig(dim=8, max_length=6),
    training=Training(negatives=16),
    fitting=Fitting(epochs=2, batch_events=32),
    validate_every=1,
    lessons=1,
)


def run(users: Sequences, settings: LeaveOneOutSettings = SETTINGS, *, reports: list[str] | None = None):
    said = [] if reports is None else reports
    return LeaveOneOut(users, settings, seed=0).run(report=said.append, on_step=lambda _share: None)


def without(part: Sequences, of: int, row: int) -> Sequences:
    """Return the users with another last item of one of them."""
    rows = part.rows.copy()
    rows[part.starts[of + 1] - 1] = row
    return dataclasses.replace(part, rows=rows)


@pytest.fixture
def users():
    rng = np.random.default_rng(0)
    return sequences(*([1 + (first + step) % ITEMS for step in range(7)] for first in rng.integers(0, ITEMS, 40)))


def test_there_is_one_test_of_each_user_with_three_events(users):
    ranks = run(users.joined(sequences([1, 2], [3], [4, 5, 6])))

    assert len(ranks.listed) == len(ranks.model_alone) == 41


def test_seen_items_are_not_listed(users):
    """Twenty items, six seen before the last: what is left has places 0 to 13."""
    ranks = run(users)

    listed = ranks.listed[ranks.listed < NOT_LISTED]
    assert len(listed)
    assert listed.max() < ITEMS - 6
    assert ranks.model_alone.max() < ITEMS - 6


def test_a_repeated_item_is_a_miss_and_is_counted(users):
    again = without(users, 3, int(users.rows[users.starts[3]]))
    ranks = run(again)

    assert ranks.repeated == 1
    assert ranks.listed[3] == ranks.model_alone[3] == NOT_LISTED


def test_the_last_item_changes_no_rank_but_its_own(users):
    """Neither training nor validation nor the blend sees it."""
    reports, others = [], []
    another = without(users, 3, 1 + users.rows[users.starts[4] - 1] % ITEMS)
    before, after = run(users, reports=reports), run(another, reports=others)

    others_than_3 = np.arange(len(users)) != 3
    assert reports == others
    assert before.listed[others_than_3].tolist() == after.listed[others_than_3].tolist()
    assert before.epochs == after.epochs


def test_training_does_not_see_the_validation_item(users):
    rows = users.rows.copy()
    rows[users.starts[1:] - 2] = 1 + (rows[users.starts[1:] - 2] + 5) % ITEMS
    changed = dataclasses.replace(users, rows=rows)

    trained = [LeaveOneOut(part, SETTINGS, seed=0) for part in (users, changed)]
    for one in trained:
        one.model.fit(lambda one=one: one.past, epochs=1)
        one.model.publish()

    assert np.array_equal(*(one.model.serving.vectors.codes for one in trained))


def test_counts_know_neither_validation_nor_test_items(users):
    one = LeaveOneOut(users.joined(sequences([1, 2])), SETTINGS, seed=0)

    assert one.model.model.events == 40 * 5 + 2


def test_training_ends_when_validation_gets_no_better(users):
    reports: list[str] = []
    patient = dataclasses.replace(SETTINGS, fitting=Fitting(epochs=60, batch_events=32), patience=2)
    ranks = run(users, patient, reports=reports)
    epochs = [line for line in reports if line.startswith("epoch")]

    assert len(epochs) < 60
    assert len(epochs) == ranks.epochs + 2


def test_it_learns(users):
    ranks = run(users, dataclasses.replace(SETTINGS, fitting=Fitting(epochs=30, batch_events=32), patience=30))

    assert isinstance(ranks, LeaveOneOutRanks)
    assert (ranks.listed < 3).mean() > 0.5
