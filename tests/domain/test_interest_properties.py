"""However a user's events are interleaved, split and delivered again, they fold to the one state their set defines."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.domain import interest
from streamrec.domain import seen as seen_items
from streamrec.domain.event import Event, EventType, Source, kind_in, percent_in, topic_number
from streamrec.domain.event_ids import RECENT_IDS
from streamrec.domain.feedback import WEIGHTS, signed
from streamrec.domain.interest import (
    DAY_MS,
    HALF_LIVES_DAYS,
    FoldRules,
    InterestState,
    Outcome,
    category_bucket,
    decayed_weights,
    entry_of,
    item_bucket,
)
from streamrec.domain.seen import SEEN_ITEMS, Seen
from streamrec.domain.summary import category_transitions, session, summarise

NOW_MS = 1_760_000_000_000
KINDS = EventType.CLICK, EventType.PURCHASE, EventType.RATING, EventType.DISLIKE
SOURCES = [Source(kind, partition) for kind in KINDS for partition in ((0, 1) if kind == EventType.CLICK else (0,))]
MANY = settings(max_examples=150, derandomize=True)


@st.composite
def logs(draw):
    """Events of one user by source partition, in the order of their offsets, with gaps and repeated ids."""
    ids = st.one_of(st.none(), st.integers(0, 5))
    times = st.one_of(st.integers(0, 5), st.integers(0, 40 * 60_000), st.integers(0, 400 * DAY_MS))
    log = {}
    for source in SOURCES:
        events, offset = [], -1
        for step, ago_ms, item, id_hash, content in draw(
            st.lists(st.tuples(st.integers(1, 3), times, st.integers(0, 9), ids, st.integers(0, 1)), max_size=12)
        ):
            offset += step
            category = f"c{item % 3}" if item else ""
            percent = 20 + 20 * (item % 5) if source.event_type is EventType.RATING else 0
            at_ms = NOW_MS - ago_ms
            events.append(Event("u", f"i{item}", at_ms, source, offset, id_hash, category, "", content, percent))
        log[source] = events
    return log


@st.composite
def deliveries(draw, log):
    """Deliver the log in any interleaving of its partitions, each of which may go back to any earlier offset."""
    delivered = []
    ahead = {source: 0 for source, events in log.items() if events}
    while ahead:
        source = draw(st.sampled_from(sorted(ahead)))
        delivered.append(log[source][ahead[source]])
        ahead[source] += 1
        if len(delivered) < 150 and draw(st.integers(0, 9)) == 0:
            ahead[source] = draw(st.integers(0, ahead[source]))
        if ahead[source] == len(log[source]):
            del ahead[source]
    return delivered


def folded(events, sequence_length, *, keep_seen=False):
    """Return the state, and what became of the events: of one that comes again, the same as before or less."""
    state, outcomes = InterestState(), {}
    for event in events:
        outcome = state.fold(event, FoldRules(sequence_length, keep_seen=keep_seen))
        first = outcomes.setdefault((event.source, event.offset), outcome)
        assert outcome in {first, Outcome.FENCED}
    return state, Counter(outcomes.values())


def is_disliked(each):
    kind = kind_in(each.event_type)
    return kind is EventType.DISLIKE or (kind is EventType.RATING and percent_in(each.event_type) < 50)


def strongest(entries, most):
    """Return the items to remember of these events, by definition: purchases first, then the latest."""
    best = {}
    for each in entries:
        if not is_disliked(each):
            strength = each.event_type == EventType.PURCHASE, each.event_time_ms
            best[each.item_id] = max(best.get(each.item_id, (False, 0)), strength)
    return dict(sorted(best.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)[:most])


def distinct(log):
    """Return the entries of a log without duplicates: the definition, computed over the log and not along the way."""
    entries = []
    for events in log.values():
        recent = []
        for event in events:
            if event.id_hash is not None:
                if event.id_hash in recent[-RECENT_IDS:]:
                    continue
                recent.append(event.id_hash)
            entries.append(entry_of(event))
    return sorted(entries)


def conflicts(log):
    """Count the events that have the id and not the content of an earlier one of their partition."""
    count = 0
    for events in log.values():
        first = {}
        for event in events:
            if event.id_hash is not None:
                count += first.setdefault(event.id_hash, event.content_hash) != event.content_hash
    return count


def sums_of(entries):
    newest_ms = max(each.event_time_ms for each in entries)
    sums = {}
    for each in entries:
        buckets = [item_bucket(each.item_id)] + ([category_bucket(each.category)] if each.category else [])
        for bucket in buckets:
            before = sums.get(bucket, [0.0] * len(HALF_LIVES_DAYS))
            sums[bucket] = [a + b for a, b in zip(before, decayed_weights(each, newest_ms), strict=True)]
    return sums


def assert_same_sums(sums, expected):
    assert sums.keys() == expected.keys()
    for bucket, values in expected.items():
        assert sums[bucket] == pytest.approx(values, rel=1e-9, abs=1e-9)


@MANY
@given(data=st.data(), log=logs(), sequence_length=st.integers(2, 8))
def test_any_delivery_folds_to_what_the_set_of_events_defines(data, log, sequence_length):
    state, outcomes = folded(data.draw(deliveries(log)), sequence_length)

    entries = distinct(log)
    newest, older = entries[-sequence_length:], entries[:-sequence_length]
    assert state.sequence == newest
    assert outcomes[Outcome.APPLIED] == len(entries) == state.events_count
    assert outcomes.total() == sum(map(len, log.values()))
    assert outcomes[Outcome.CONFLICT] == conflicts(log)
    assert {source: fence.offset for source, fence in state.fence.items()} == {
        source: events[-1].offset for source, events in log.items() if events
    }
    if not older:
        assert state.beyond is None
    else:
        assert state.beyond.events == [
            sum(topic_number(each.event_type) == number for each in older) for number in (0, 1, 2)
        ]
        assert state.beyond.reference_ms == older[-1].event_time_ms
        assert_same_sums(state.beyond.sums, sums_of(older))


@MANY
@given(data=st.data(), log=logs(), sequence_length=st.integers(2, 8))
def test_two_deliveries_of_one_log_end_in_the_same_state(data, log, sequence_length):
    one, _ = folded(data.draw(deliveries(log)), sequence_length)
    other, _ = folded(data.draw(deliveries(log)), sequence_length)

    assert (one.sequence, one.fence, one.events_count) == (other.sequence, other.fence, other.events_count)
    assert category_transitions(one.sequence) == category_transitions(other.sequence)
    ours, theirs = summarise(one), summarise(other)
    assert ours.short_term == theirs.short_term
    assert_same_sums(ours.long_term, theirs.long_term)
    assert_same_sums(ours.long_term_items, theirs.long_term_items)


@MANY
@given(log=logs(), sequence_length=st.integers(2, 8))
def test_everything_in_a_state_is_bounded(log, sequence_length):
    state, _ = folded([event for events in log.values() for event in events], sequence_length)

    summary = summarise(state)
    assert len(state.sequence) <= sequence_length
    assert len(session(state.sequence)) <= sequence_length
    assert len(category_transitions(state.sequence)) < sequence_length
    assert max(len(summary.short_term), len(summary.long_term), len(summary.long_term_items)) <= sequence_length
    assert all(len(fence.recent_ids) <= RECENT_IDS for fence in state.fence.values())


@MANY
@given(data=st.data(), log=logs(), sequence_length=st.integers(2, 8), most=st.integers(1, 6))
def test_hidden_items_outlive_the_sequence_whatever_the_delivery(data, log, sequence_length, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen_items, "SEEN_ITEMS", most)
        state, _ = folded(data.draw(deliveries(log)), sequence_length, keep_seen=True)
    wanted = strongest(distinct(log)[:-sequence_length], most)
    seen = state.seen or Seen()
    assert seen.purchased == {item: at_ms for item, (is_bought, at_ms) in wanted.items() if is_bought}
    assert seen.clicked == {item: at_ms for item, (is_bought, at_ms) in wanted.items() if not is_bought}
    assert state.seen_before() == sorted(wanted.keys() - {event.item_id for event in state.sequence})


@MANY
@given(data=st.data(), log=logs(), sequence_length=st.integers(2, 8), most=st.integers(1, 3))
def test_the_latest_dislikes_outlive_the_sequence_whatever_the_delivery(data, log, sequence_length, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interest, "DISLIKED_ITEMS", most)
        state, _ = folded(data.draw(deliveries(log)), sequence_length)
    latest = {}
    for each in distinct(log)[:-sequence_length]:
        if is_disliked(each):
            latest[each.item_id] = max(each.event_time_ms, latest.get(each.item_id, 0))
    wanted = sorted(latest.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)[:most]
    assert state.disliked == dict(wanted)
    came_back = {event.item_id for event in signed(state.sequence, WEIGHTS) if event.event_type >= 0}
    assert state.disliked_before(signed(state.sequence, WEIGHTS)) == sorted(state.disliked.keys() - came_back)


def test_a_purchase_is_remembered_longer_than_any_click():
    source = Source(EventType.CLICK, 0)
    bought = Event("u", "bought", NOW_MS, Source(EventType.PURCHASE, 0), 0)
    clicks = [Event("u", f"i{n}", NOW_MS + 1 + n, source, n) for n in range(3 * SEEN_ITEMS)]
    state, _ = folded([bought, *clicks], 50, keep_seen=True)
    assert len(state.seen_before()) == SEEN_ITEMS
    assert "bought" in state.seen_before()
    assert folded([bought, *clicks], 50)[0].seen is None
