"""What an interest state says of a user."""

from __future__ import annotations

import pytest

from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.event_context import context_codes
from streamrec.domain.event_ids import RECENT_IDS
from streamrec.domain.feedback import WEIGHTS
from streamrec.domain.interest import (
    BUCKETS,
    DAY_MS,
    FoldRules,
    InterestState,
    Outcome,
    SequenceEvent,
    category_bucket,
    item_bucket,
)
from streamrec.domain.summary import SESSION_GAP_MS, category_transitions, session, summarise

CLICKS = Source(EventType.CLICK, 0)
PURCHASES = Source(EventType.PURCHASE, 0)


def event(offset, item_id="a", at_ms=0, *, source=CLICKS, category="", id_hash=None):
    return Event("u", item_id, at_ms, source, offset, id_hash, category)


def state_of(*events, sequence_length=50):
    state = InterestState()
    for each in events:
        state.fold(each, FoldRules(sequence_length))
    return state


def items(state):
    return [each.item_id for each in state.sequence]


def test_sequence_is_ordered_by_time_whatever_came_first():
    state = state_of(event(0, "late", 20), event(1, "early", 10), event(0, "bought", 15, source=PURCHASES))
    assert items(state) == ["early", "bought", "late"]


def test_events_of_one_instant_are_ordered_by_type_partition_and_offset():
    other = Source(EventType.CLICK, 1)
    state = state_of(
        event(0, "bought", source=PURCHASES), event(5, "other", source=other), event(0, "a"), event(1, "b")
    )
    assert items(state) == ["a", "b", "other", "bought"]


def test_an_event_keeps_the_context_of_the_keys_that_are_used():
    rules = FoldRules(50, context_keys=("device", "weekday"))
    state = InterestState()
    contexts = {"device": "phone", "page": 7}, {"page": 7}, {}
    for offset, context in enumerate(contexts):
        state.fold(event(offset, at_ms=offset)._replace(context=context), rules)
    of_device, of_day = context_codes({"device": "phone"}, 0, ("device", "weekday"))
    assert [each.context for each in state.sequence] == [(of_device, of_day), (of_day,), (of_day,)]
    assert state_of(event(1)._replace(context=contexts[0])).sequence[0].context == ()


def test_oldest_event_leaves_a_full_sequence():
    state = state_of(event(0, "b", 2), event(1, "c", 3), event(2, "a", 1), sequence_length=2)
    assert items(state) == ["b", "c"]
    assert state.beyond.events == [1, 0, 0]
    assert state.events_count == 3


def test_position_that_is_contained_already_is_fenced():
    state = state_of(event(5))
    assert state.fold(event(5), FoldRules(50)) is Outcome.FENCED
    assert state.fold(event(4, "other"), FoldRules(50)) is Outcome.FENCED
    assert state.fold(event(4, "other", source=PURCHASES), FoldRules(50)) is Outcome.APPLIED


def test_a_redelivery_ends_as_the_first_delivery_did_as_long_as_the_sequence_reaches():
    log = [
        event(0, "a", 10, id_hash=7),
        event(1, "a", 10, id_hash=7),
        event(2, "b", 20, id_hash=7)._replace(content_hash=1),
        event(3, "c", 30),
    ]
    state = state_of(*log)

    again = [state.fold(each, FoldRules(50)) for each in log]
    assert again == [Outcome.FENCED, Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.FENCED]
    assert items(state) == ["a", "c"]
    assert state.fence[CLICKS].offset == 3
    state.fold(event(4, "d", 40), FoldRules(1))
    assert state.fold(log[1], FoldRules(1)) is Outcome.FENCED, "it is older than the sequence"


def test_id_is_remembered_for_as_many_ids_as_stated():
    state = InterestState()
    for offset in range(RECENT_IDS):
        assert state.fold(event(offset, id_hash=offset), FoldRules(5)) is Outcome.APPLIED
    assert state.fold(event(RECENT_IDS, id_hash=0), FoldRules(5)) is Outcome.DUPLICATE
    assert state.fold(event(RECENT_IDS + 1, id_hash=-1), FoldRules(5)) is Outcome.APPLIED
    assert state.fold(event(RECENT_IDS + 2, id_hash=0), FoldRules(5)) is Outcome.APPLIED


def test_duplicate_moves_the_fence_and_nothing_else():
    state = state_of(event(0, id_hash=7), event(1, "b", id_hash=7))
    assert items(state) == ["a"]
    assert state.fence[CLICKS].offset == 1


def test_session_ends_at_a_pause():
    events = [SequenceEvent(at_ms, 0, 0, offset, "a", "") for offset, at_ms in enumerate((0, SESSION_GAP_MS + 1))]
    assert session(events) == events[1:]
    within = [SequenceEvent(at_ms, 0, 0, offset, "a", "") for offset, at_ms in enumerate((0, SESSION_GAP_MS))]
    assert session(within) == within
    assert session([]) == []


def test_transitions_are_counted_inside_sessions_and_pass_over_events_without_category():
    at_ms = [0, 1, 2, 3, SESSION_GAP_MS + 10]
    categories = ["x", "", "y", "y", "x"]
    events = [
        SequenceEvent(at, 0, 0, offset, "a", name)
        for offset, (at, name) in enumerate(zip(at_ms, categories, strict=True))
    ]
    assert category_transitions(events) == {("x", "y"): 1, ("y", "y"): 1}


def test_short_term_interest_is_the_session_and_a_purchase_weighs_more():
    state = state_of(
        event(0, "a", 0, category="old"),
        event(1, "b", DAY_MS, category="x"),
        event(0, "c", DAY_MS + 1, source=PURCHASES, category="y"),
    )
    assert summarise(state).short_term == {"x": 1.0, "y": WEIGHTS[EventType.PURCHASE]}


def test_long_term_interest_halves_with_each_half_life():
    state = state_of(event(0, "a", 0, category="x"), event(1, "b", 7 * DAY_MS, category="y"))
    interest = summarise(state)
    assert interest.long_term["x"] == pytest.approx([0.5**7, 0.5, 0.5 ** (7 / 30)])
    assert interest.long_term["y"] == interest.long_term_items["b"] == [1.0, 1.0, 1.0]


def test_what_left_the_sequence_still_counts():
    state = state_of(*(event(offset, "a", offset, category="x") for offset in range(10)), sequence_length=3)
    assert summarise(state).long_term["x"] == pytest.approx([10.0] * 3, rel=1e-6)


def test_what_left_the_sequence_decays_when_something_newer_leaves_it():
    state = state_of(event(0, "a", 0), event(1, "b", DAY_MS), event(2, "c", 2 * DAY_MS), sequence_length=1)
    assert state.beyond.reference_ms == DAY_MS
    assert state.beyond.sums[item_bucket("a")][0] == pytest.approx(0.5)


def test_nothing_is_known_of_a_new_user():
    interest = summarise(InterestState())
    assert (interest.short_term, interest.long_term, interest.long_term_items) == ({}, {}, {})


def test_buckets_of_items_and_categories_do_not_meet():
    names = [f"n{number}" for number in range(500)]
    assert {item_bucket(name) for name in names} == set(range(BUCKETS))
    assert {category_bucket(name) for name in names} == set(range(BUCKETS, 2 * BUCKETS))


def test_each_event_makes_the_version_of_the_content_grow_in_whatever_order_they_come():
    events = [event(offset, at_ms=1_760_000_000_000 + offset % 7 * 1_000) for offset in range(60)]
    state, versions = InterestState(), []
    for each in events:
        state.fold(each, FoldRules(10))
        versions.append(state.content_version)
    assert versions == sorted(set(versions))

    backwards = InterestState()
    for each in reversed(events):
        backwards.fence.clear()
        backwards.fold(each, FoldRules(10))
    assert backwards.content_version == state.content_version
