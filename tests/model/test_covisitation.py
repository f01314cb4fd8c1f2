from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.domain.interest import SequenceEvent
from streamrec.model.tables.covisitation import HALF_LIFE_MS, LOOK_BACK, Covisitation
from streamrec.model.tables.neighbour_lists import (
    BACKWARD_WEIGHT,
    DISTANCE_DECAY,
    KEPT_WHEN_FULL,
    MAX_NEIGHBOURS,
    OTHER_SESSION_WEIGHT,
    SESSION_GAP_MS,
)
from streamrec.model.tables.popularity import share_of
from streamrec.model.tables.vocabulary import DAY_MS

NOW = 1_760_000_000_000
MINUTE_MS = 60_000


class PlainCovisitation:
    """What the compiled loops do, written for reading: a dictionary for each row, weights as of `NOW`."""

    def __init__(self):
        self.after = defaultdict(dict)

    def add(self, prefix, row, time_ms):
        weight, later_ms, seen = 2.0 ** ((time_ms - NOW) / HALF_LIFE_MS), time_ms, {row}
        for other, other_ms in reversed(prefix[-LOOK_BACK:]):
            if later_ms - other_ms > SESSION_GAP_MS:
                weight *= OTHER_SESSION_WEIGHT
            later_ms = other_ms
            if other not in seen:
                seen.add(other)
                self._add(other, row, weight)
                self._add(row, other, weight * BACKWARD_WEIGHT)
            weight *= DISTANCE_DECAY
        return seen if len(seen) > 1 else set()

    def _add(self, row, other, weight):
        if other not in self.after[row] and len(self.after[row]) == MAX_NEIGHBOURS:
            self.after[row] = self.strongest(row, KEPT_WHEN_FULL)
        self.after[row][other] = self.after[row].get(other, 0.0) + weight

    def strongest(self, row, n):
        return dict(sorted(self.after[row].items(), key=lambda pair: -pair[1])[:n])

    def clear(self, row):
        self.after.pop(row, None)
        return {holder for holder, after in self.after.items() if after.pop(row, None) is not None}


def lists_of(pairs, rows, n=MAX_NEIGHBOURS):
    """Return the neighbours of each row and their weights as of `NOW`."""
    lengths, others, weights = pairs.strongest(rows, n)
    weights = weights * 2.0 ** ((pairs.reference_ms - NOW) / HALF_LIFE_MS)
    ends = np.cumsum(lengths)
    return {
        row: dict(zip(others[start:end].tolist(), weights[start:end].tolist(), strict=True))
        for row, start, end in zip(rows, ends - lengths, ends, strict=True)
    }


ROWS = st.integers(1, 90)
EVENTS = st.tuples(
    st.lists(st.tuples(ROWS, st.integers(0, 60)), max_size=10), st.integers(1, 2) | ROWS, st.integers(0, 600)
)


@settings(max_examples=30)
@given(st.lists(EVENTS, min_size=100, max_size=400), st.integers(1, 20))
def test_lists_are_those_of_plain_dictionaries(events, clear_every):
    pairs, plain = Covisitation(), PlainCovisitation()
    now_ms = NOW
    for number, (before, row, pause_minutes) in enumerate(events):
        now_ms += pause_minutes * MINUTE_MS
        prefix = [(other, now_ms - minutes * MINUTE_MS) for other, minutes in sorted(before, key=lambda pair: -pair[1])]
        assert set(pairs.add(prefix, row, now_ms)) == plain.add(prefix, row, now_ms)
        if number % clear_every == 0:
            assert set(pairs.clear(row)) == plain.clear(row)
    restored = Covisitation()
    restored.load(pairs.state())
    for each in (pairs, restored):
        lists = lists_of(each, range(1, 91))
        for row in range(1, 91):
            assert lists[row] == pytest.approx(plain.after[row], rel=1e-4)
            assert list(lists[row].values()) == sorted(lists[row].values(), reverse=True)


def test_neighbour_lists_are_bounded_and_keep_the_strongest():
    pairs = Covisitation()
    for _ in range(5):
        pairs.add([(1, NOW)], 2, NOW)
    for other in range(3, 200):
        pairs.add([(1, NOW)], other, NOW)
    neighbours = lists_of(pairs, [1], 1_000)[1]
    assert KEPT_WHEN_FULL < len(neighbours) <= MAX_NEIGHBOURS
    assert next(iter(neighbours)) == 2
    assert len(lists_of(pairs, [1], 5)[1]) == 5


def test_a_user_who_goes_back_and_forth_makes_one_pair():
    pairs, once = Covisitation(), Covisitation()
    sequence = [SequenceEvent(NOW + 1_000 * n, 0, 0, n, "ab"[n % 2], "") for n in range(50)]
    for index, event in enumerate(sequence):
        prefix = [(1 + (each.item_id == "b"), each.event_time_ms) for each in sequence[max(0, index - 8) : index]]
        share = share_of(sequence, index, is_whole=True)
        pairs.add(prefix, 1 + (event.item_id == "b"), event.event_time_ms, share)
    once.add([(1, NOW)], 2, NOW)
    assert lists_of(pairs, [1])[1][2] < 4 * lists_of(once, [1])[1][2]


def test_a_row_that_is_given_up_leaves_every_list():
    pairs = Covisitation()
    pairs.add([(1, NOW), (2, NOW + 1)], 3, NOW + 2)
    assert sorted(pairs.clear(3)) == [1, 2]
    assert lists_of(pairs, [1, 2, 3]) == {1: {}, 2: {}, 3: {}}


def test_nearer_and_newer_pairs_weigh_more():
    pairs = Covisitation()
    pairs.add([(1, NOW), (2, NOW + 1)], 3, NOW + 2)
    lists = lists_of(pairs, [1, 2, 3])
    assert lists[2][3] > lists[1][3] > lists[3][1]
    pairs.add([(2, NOW + 30 * DAY_MS)], 4, NOW + 30 * DAY_MS)
    assert list(lists_of(pairs, [2])[2]) == [4, 3]


def test_weights_stay_finite_for_years():
    pairs = Covisitation()
    for year in range(30):
        now_ms = NOW + year * 365 * DAY_MS
        pairs.add([(1, now_ms)], 2 + year, now_ms)
    neighbours = pairs.strongest([1], MAX_NEIGHBOURS)
    assert neighbours.others[0] == 31
    assert np.isfinite(neighbours.weights).all()


def test_rows_beyond_all_others_have_empty_lists():
    pairs = Covisitation()
    assert pairs.strongest([], 5).others.tolist() == []
    assert lists_of(pairs, [5_000]) == {5_000: {}}
    assert pairs.clear(100_000) == []


def test_of_equal_neighbours_those_that_came_first_are_listed():
    pairs = Covisitation()
    for other in (4, 2, 3):
        pairs.add([(1, NOW)], other, NOW)
    assert pairs.strongest([1], 2).others.tolist() == [4, 2]
