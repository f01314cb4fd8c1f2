"""However batches are split, handed in again, interrupted or fought over, the stores end as if nothing had happened."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from builders import NOW_MS, batch, click, part
from doubles import MemoryInterestStore, MemoryPublisher
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.contracts.topics import EVENT_TOPICS
from streamrec.domain.interest import FoldRules
from streamrec.errors import TransientError
from streamrec.service.batch import TopicPartition
from streamrec.service.fold_interests import FoldInterests

SOURCES = [TopicPartition(topic, partition) for topic in EVENT_TOPICS for partition in (0, 1)]
LENGTH = 3


def record(user, item, ago_ms, event_id):
    return click(f"u{user}", f"i{item}", NOW_MS - ago_ms, **({"event_id": event_id} if event_id else {}))


good = st.builds(
    record, st.integers(0, 2), st.integers(0, 5), st.integers(0, 10**9), st.sampled_from(["", "", "a", "b", "c"])
)
values = st.one_of(good, good, good, st.just(b"{broken"))
logs = st.fixed_dictionaries({source: st.lists(values, max_size=8) for source in SOURCES})
mishaps = st.sampled_from(["", "", "broker", "conflict", "older store"])
plans = st.lists(
    st.tuples(mishaps, st.dictionaries(st.sampled_from(SOURCES), st.tuples(st.integers(-3, 3), st.integers(1, 5)))),
    max_size=12,
)


def counts_beyond(state):
    return state.beyond and (state.beyond.events, state.beyond.reference_ms)


class Stage:
    """A store and a publisher with a log before them."""

    def __init__(self, log):
        self.log = log
        self.store, self.publisher = MemoryInterestStore(), MemoryPublisher()
        self.remember()

    def worker(self):
        return FoldInterests(self.store, self.publisher, FoldRules(LENGTH), dead_letter_limit=1.0)

    def slices(self, wanted):
        """Return slices that begin so far from the store's positions and have so many records."""
        positions = self.store.positions(SOURCES)
        for source, (shift, count) in wanted.items():
            start = max(0, positions.get(source, 0) + shift)
            records = self.log[source][start : start + count]
            if records:
                yield part(source.topic, records, start=start, partition=source.partition)

    def handle(self, wanted):
        work = batch(*self.slices(wanted))
        if work.slices:
            self.worker().handle(work)

    def act(self, mishap, wanted):
        if mishap == "older store":
            self.restore()
            return
        self.remember()
        if mishap == "broker":
            self.publisher.failures = 1
        if mishap == "conflict":
            self.interfere(wanted)
        with suppress(TransientError):
            self.handle(wanted)
        self.publisher.failures = 0

    def interfere(self, wanted):
        """Let another worker write the same before the first one does."""
        write, store = self.store.compare_and_set, self.store

        def second(snapshot):
            store.compare_and_set = write
            self.handle(dict.fromkeys(wanted, (0, 2)))
            return write(snapshot)

        store.compare_and_set = second

    def remember(self):
        self.older = self.store.load(list(self.store.states), SOURCES)

    def restore(self):
        """Bring the store back as it was before the last act, as one that lost its newest writes."""
        back = MemoryInterestStore()
        for held in (*self.older.states.values(), *self.older.progress.values()):
            held.version = 0
        back.compare_and_set(self.older)
        self.store = back

    def finish(self):
        self.store.compare_and_set = type(self.store).compare_and_set.__get__(self.store)
        for _ in range(20):
            self.handle(dict.fromkeys(SOURCES, (0, 3)))

    def outcome(self):
        progress = self.store.progress(SOURCES).values()
        return (
            {user: (state.sequence, state.fence, counts_beyond(state)) for user, state in self.store.states.items()},
            [sum(getattr(each, name) for each in progress) for name in ("applied", "duplicates", "dead_lettered")],
            {source: position for source, position in self.store.positions(SOURCES).items() if position},
        )

    def sums(self):
        """Return what is summed in floating point, where the order of events may cost the last digit."""
        return {
            (user, bucket): sums
            for user, state in self.store.states.items()
            if state.beyond
            for bucket, sums in state.beyond.sums.items()
        }

    def published(self):
        return {
            tuple(position)
            for record in self.publisher.of("user-interests")
            for position in json.loads(record.value)["new"]
        }

    def letters(self):
        return {
            tuple(record.headers[f"dlq.{name}"] for name in ("topic", "partition", "offset"))
            for topic in EVENT_TOPICS
            for record in self.publisher.of(f"{topic}.dlq")
        }


@settings(max_examples=200, derandomize=True)
@given(logs, plans)
def test_the_stores_end_as_after_an_undisturbed_run(log, plan):
    disturbed, undisturbed = Stage(log), Stage(log)
    for mishap, wanted in plan:
        disturbed.act(mishap, wanted)
    disturbed.finish()
    undisturbed.finish()

    assert disturbed.outcome() == undisturbed.outcome()
    sums, expected = disturbed.sums(), undisturbed.sums()
    assert sums.keys() == expected.keys()
    assert all(sums[key] == pytest.approx(expected[key], rel=1e-9, abs=1e-9) for key in sums)
    assert disturbed.letters() == undisturbed.letters()
    assert undisturbed.published() <= disturbed.published()
