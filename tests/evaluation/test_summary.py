"""Figures and p-values, compared with manual calculations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamrec.evaluation.list_quality import ListQuality
from streamrec.evaluation.metrics import NOT_LISTED, Scores, ndcg, reciprocal_rank
from streamrec.evaluation.significance import confidence_interval, mcnemar
from streamrec.evaluation.summary import summarize

RUN = {"learned_events": 60, "rollbacks": 0, "skipped": {}, "cpu_s": {}, "seconds": 1.0, "settings": {}}


def new_scores():
    """Score 40 events of 4 users: always second for the model, fifth for `good`, in no list for `bad`."""
    scores = Scores(["streamrec", "good", "bad"])
    for number in range(40):
        is_new = number % 10 == 0
        scores.add([NOT_LISTED if is_new else 1, NOT_LISTED if is_new else 4, NOT_LISTED], [number % 2, 2])
        scores.users.append(number % 4)
        scores.times_ms.append(1_000 * number)
        scores.is_new.append(is_new)
        scores.known_items.append(4 + number // 10)
        scores.novelty.append(2.0)
    return scores


def test_gains_at_both_cutoffs():
    ranks = np.array([0, 1, 9, 10, 19, NOT_LISTED])

    assert ndcg(ranks, 20) == pytest.approx(
        [1, 1 / math.log2(3), 1 / math.log2(11), 1 / math.log2(12), 1 / math.log2(21), 0]
    )
    assert reciprocal_rank(ranks) == pytest.approx([1, 0.5, 0.1, 0, 0, 0])


def test_the_summary_is_that_of_a_plain_computation():
    result = summarize(new_scores(), ListQuality(), seed=0, **RUN)

    assert result.events == 40
    assert result.hit_rate_at_10 == result.hit_rate_at_20 == 0.9
    assert result.ndcg_at_10 == pytest.approx(0.9 / math.log2(3), abs=1e-5)
    assert result.ndcg_at_10_of_known_items == pytest.approx(1 / math.log2(3), abs=1e-5)
    assert result.mrr_at_10 == 0.45
    assert result.new_item_share == 0.1
    assert result.coverage == pytest.approx(3 / 7, abs=1e-5)
    assert result.novelty == 2.0
    assert result.baselines == {"good": pytest.approx(0.9 / math.log2(6), abs=1e-5), "bad": 0.0}
    assert result.baseline_hit_rates_at_10 == {"good": 0.9, "bad": 0.0}
    assert result.best_baseline == "good"
    assert result.relative_gain == pytest.approx(math.log2(6) / math.log2(3) - 1, abs=1e-4)
    assert result.p_value == 1.0  # the same events are hits of both
    low, high = result.relative_gain_interval
    assert low == pytest.approx(high)  # of each user, the gain is the same


def test_windows_are_in_order_and_hold_every_event_once():
    windows = summarize(new_scores(), ListQuality(), seed=0, **RUN).windows

    assert [window.events for window in windows] == [4] * 10
    assert [window.from_ms for window in windows] == [4_000 * number for number in range(10)]
    assert windows[3].to_ms == 15_000
    assert [window.new_item_share for window in windows] == [0.25, 0, 0.25, 0, 0, 0.25, 0, 0.25, 0, 0]


@pytest.mark.parametrize(
    ("only", "only_other", "p_value"),
    [(0, 0, 1.0), (6, 1, 0.125), (1, 6, 0.125), (10, 0, 2 / 2**10), (600, 500, 0.00285)],
)
def test_p_values_are_those_of_the_books(only, only_other, p_value):
    hits = np.array([True] * only + [False] * only_other + [True] * 5)
    others = np.array([False] * only + [True] * only_other + [True] * 5)

    assert mcnemar(hits, others) == pytest.approx(p_value, rel=0.01)


def test_users_are_resampled_not_events():
    """Two users of a hundred events each are two observations, not two hundred."""
    values, users = np.repeat([0.0, 1.0], 100), np.repeat([0, 1], 100)

    assert confidence_interval([values], [users], seed=0) == (0.0, 1.0)


def test_an_interval_shrinks_with_more_users():
    draw = np.random.default_rng(0)
    widths = []
    for users in (50, 800):
        low, high = confidence_interval([draw.random(users)], seed=0)
        assert low < 0.5 < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.3)
