from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.domain.interest import SequenceEvent
from streamrec.model.tables.popularity import HALF_LIVES_MS, REPEAT_PERIOD_MS, Popularity, share_of
from streamrec.model.tables.vocabulary import DAY_MS, PADDING, Vocabulary, pack_ids, unpack_ids

NOW = 1_760_000_000_000


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), max_size=200))
def test_no_two_items_share_a_row_and_rows_are_used_again(steps):
    freed = []
    vocabulary = Vocabulary(max_items=8, time_to_live_days=1, on_free=freed.append)
    now_ms = NOW
    for item, hours in steps:
        now_ms += hours * DAY_MS // 24
        vocabulary.observe(f"i{item}", now_ms)
        live = [item_id for item_id in vocabulary.ids if item_id]
        assert len(live) == len(set(live)) == vocabulary.live_items <= 8
        assert all(vocabulary.ids[vocabulary.row(item_id)] == item_id for item_id in live)
        assert len(vocabulary) <= 9
        assert vocabulary.row("nobody") == PADDING


def test_silent_items_are_forgotten_and_told():
    freed = []
    vocabulary = Vocabulary(time_to_live_days=1, on_free=freed.append)
    old, _ = vocabulary.observe("old", NOW)
    vocabulary.observe("kept", NOW + DAY_MS)
    row, is_new = vocabulary.observe("new", NOW + DAY_MS + 1)
    assert (freed, row, is_new) == ([old], old, True)
    assert vocabulary.row("old") == PADDING
    assert vocabulary.events[row] == 1


def test_a_vocabulary_survives_a_checkpoint():
    vocabulary = Vocabulary(max_items=3)
    for index, item in enumerate("abcdbe"):
        vocabulary.observe(item, NOW + index)
    other = Vocabulary(max_items=3)
    other.load(vocabulary.state())
    for item in "bxyz":
        assert other.observe(item, NOW + 9) == vocabulary.observe(item, NOW + 9)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5), min_size=1))
def test_ids_travel_whatever_they_hold(ids):
    assert unpack_ids(pack_ids(ids)) == ids


def test_popularity_does_not_depend_on_order_and_halves():
    rows = np.array([1, 2, 1, 3, 1])
    times_ms = NOW + np.array([0, 10, 400, 2_000, 9_000]) * 60_000
    one, other = Popularity(), Popularity()
    one.add_many(rows, times_ms)
    for row, time_ms in reversed(list(zip(rows, times_ms, strict=True))):
        other.add_many(np.array([row]), np.array([time_ms]))
    for popularity in (one, other):
        popularity.move_reference(NOW + 9_000 * 60_000)
    assert one.counts[:4] == pytest.approx(other.counts[:4], rel=1e-4)
    assert one.totals == pytest.approx(other.totals, rel=1e-6)
    expected = sum(np.exp2(-age * 60_000 / HALF_LIVES_MS) for age in (9_000, 8_600, 0))
    assert one.counts[1] == pytest.approx(expected, rel=1e-4)
    assert one.last_ms[1] == times_ms[-1]
    assert one.first_ms[1] == NOW


def test_a_user_counts_again_after_the_period_of_repetitions():
    at_ms = [NOW, NOW + 1, NOW + REPEAT_PERIOD_MS, NOW + 3 * REPEAT_PERIOD_MS]
    sequence = [SequenceEvent(time_ms, 0, 0, n, "a", "") for n, time_ms in enumerate(at_ms)]
    assert [share_of(sequence, index, is_whole=True) for index in range(4)] == [1.0, 0.5, 0.25, 1.0]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=50), st.booleans())
def test_one_user_never_weighs_as_much_as_two(items, is_whole):
    sequence = [SequenceEvent(NOW + n, 0, 0, n, item, "") for n, item in enumerate(items)]
    for item in set(items):
        shares = [share_of(sequence, n, is_whole=is_whole) for n, each in enumerate(items) if each == item]
        assert sum(shares) < 2.0


def test_a_repetition_is_no_event_of_its_item():
    vocabulary = Vocabulary()
    for is_repeat in (True, True, False):  # an item is never without any
        row, _ = vocabulary.observe("a", NOW, is_repeat=is_repeat)
    assert vocabulary.events[row] == 2
