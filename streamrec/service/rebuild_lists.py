"""Rebuilds outdated lists in the background.

Otherwise a list is made when its user acts, by the version serving then. Marks determine which lists to rebuild; these
are rebuilt from the stored interest states, most recently active users first. The work can be interrupted anywhere: a
mark is removed once the new list is in the store and on Kafka, and a list that is made twice replaces itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import compress

import msgspec

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.topics import RECOMMENDATIONS, USER_INTERESTS
from streamrec.domain.interest import InterestState
from streamrec.service.batch import TopicPartition
from streamrec.service.interest_record import Changed, user_interest
from streamrec.service.list_marks import Census, Facts, Knowledge, Made, is_tolerable, is_undone, lacking, marks_of
from streamrec.service.list_ports import EncodedList, ListOrigin, TopKStore
from streamrec.service.list_record import list_record
from streamrec.service.make_lists import ListMaker
from streamrec.service.ports import InterestStore, Publisher

LOOK_S = 1.0
"""Interval between reads of the marks."""

QUIET_S = 2.0
"""The stream is quiet when no list was made for this long: then lists are rebuilt at full speed."""

PATIENCE_S = 30.0
"""In a quiet stream lists wait this long for the trainer to learn the rest; after that, a tolerable gap is accepted."""

QUIET_BATCH, BUSY_BATCH = 64, 8
"""Batch size: an event that arrives meanwhile waits for the batch, some milliseconds."""

BUSY_SHARE = 0.05
"""Share of time for rebuilding while events arrive."""


class RebuildLists:
    """Rebuilds marked lists; not thread-safe.

    Parameters
    ----------
    store, states, publisher
        Store of lists and marks, store of interest states, and publisher of lists.
    maker
        Makes lists.
    ends
        Returns the offset below which this process has made lists, by partition of `user-interests`.
    monotonic_s
        Clock for the intervals.
    """

    def __init__(
        self,
        store: TopKStore,
        states: InterestStore,
        publisher: Publisher,
        maker: ListMaker,
        *,
        ends: Callable[[], Mapping[int, int]],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._states, self._marks, self._publisher = store, states, store.marks, publisher
        self._maker = maker
        self._ends = ends
        self._monotonic_s = monotonic_s
        self._looked_s = float("-inf")
        self._moved_s = monotonic_s()
        self._position: dict[int, int] = {}
        self._own_ends: dict[int, int] = {}
        """The last result of `ends`."""
        self._is_claimed = False
        self.facts, self.census = Facts(), Census()
        """The last facts."""
        self.rebuilt = 0
        """Number of rebuilt lists."""

    def step(self) -> float:
        """Rebuild a few lists, and return the seconds until the next call.

        Raises
        ------
        TransientError
            If a store or the broker is unavailable; the next call retries the same lists.
        """
        begun_s = self._monotonic_s()
        if begun_s - self._looked_s >= LOOK_S:
            self._look(begun_s)
        users = self._next(begun_s) if self._is_claimed else []
        if not users:
            return max(0.0, self._looked_s + LOOK_S - self._monotonic_s())
        self._rebuild(users)
        took_s = self._monotonic_s() - begun_s
        return 0.0 if self._is_quiet else took_s * (1 - BUSY_SHARE) / BUSY_SHARE

    @property
    def _is_quiet(self) -> bool:
        """Whether the stream was quiet at the last read, and no list was made here since."""
        return self.facts.quiet and self._ends() == self._own_ends

    def _look(self, now_s: float) -> None:
        """Read the state of marks and version, and store the facts needed to interpret the marks."""
        knowledge, self._own_ends = self._maker.ranker.knowledge, dict(self._ends())
        known = {*self._own_ends, *(knowledge.contains or ())}
        sources = [TopicPartition(USER_INTERESTS, number) for number in range(max(known, default=-1) + 1)]
        position = {source.partition: offset for source, offset in self._store.positions(sources).items()}
        if position != self._position:
            self._position, self._moved_s = position, now_s
        known_items, other_items = self._maker.ranker.vocabulary
        kept = self._marks.facts()
        facts = Facts(
            version=knowledge.version,
            events=knowledge.events,
            lacking=lacking(knowledge, position),
            known_items=known_items,
            other_items=other_items,
            top_k=self._maker.top_k,
            quiet=now_s - self._moved_s >= QUIET_S,
            waiting_since_ms=kept.waiting_since_ms,
            # a worker without a version has no facts
            rollbacks=knowledge.rollbacks.times if knowledge.rollbacks else kept.rollbacks,
        )
        self._is_claimed = self._marks.claim()
        if self._is_claimed:
            self._undo(kept, knowledge)
        self.census = self._marks.count(facts)
        self.facts = self._timed(facts)
        if self._is_claimed:
            self._marks.trim()
            if self.facts != kept:
                self._marks.keep(self.facts)
        self._looked_s = now_s

    def _undo(self, kept: Facts, knowledge: Knowledge) -> None:
        """Mark the lists of versions rolled back since the last read, or all lists after several rollbacks.

        It is repeated if its completion was not stored.
        """
        if knowledge.rollbacks is None or kept.rollbacks is None:
            return
        times, to_events = knowledge.rollbacks
        if times > kept.rollbacks:
            self._marks.undo(above=to_events if times == kept.rollbacks + 1 else 0)

    def _timed(self, facts: Facts) -> Facts:
        since_ms = (facts.waiting_since_ms or self._maker.now_ms()) if self.census.waiting else 0
        return (
            facts if since_ms == facts.waiting_since_ms else msgspec.structs.replace(facts, waiting_since_ms=since_ms)
        )

    def _next(self, now_s: float) -> list[str]:
        """Return the users whose lists to rebuild now."""
        facts, marks, is_quiet = self.facts, self._marks, self._is_quiet
        count = QUIET_BATCH if is_quiet else BUSY_BATCH
        if self.census.short and (users := marks.short(count, below=facts.items)):
            return users
        if not facts.version:
            return []  # nothing would improve, and without a version the partitions are unknown
        if is_quiet and facts.lacking and now_s - self._moved_s < PATIENCE_S:
            return []  # the trainer is about to learn the rest
        if not is_tolerable(facts.events, facts.lacking):
            return []
        is_complete = is_quiet and not facts.lacking
        return (
            marks.newest(Made.BEHIND, count, below=float("inf") if is_complete else facts.behind_below)
            or marks.newest(Made.COMPLETE, count, below=facts.complete_below)
            or marks.newest(Made.POOR, count)
        )

    def _interest(self, user_id: str, state: InterestState, origin: ListOrigin) -> UserInterest:
        return user_interest(user_id, state, Changed(produced_at_ms=origin.produced_at_ms), self._maker.weights)

    def _rebuild(self, users: Sequence[str]) -> None:
        # read lists before states: a state older than its list was lost, so the list cannot be improved
        origins = self._store.origins(users)
        states = self._states.load(users, []).states
        interests = [
            interest
            for user_id, origin in zip(users, origins, strict=True)
            if origin is not None and states[user_id].sequence
            for interest in [self._interest(user_id, states[user_id], origin)]
            if interest.state_version >= origin.state_version
        ]
        # read before the lists are made: they do not all contain what is learned meanwhile
        ranker = self._maker.ranker
        knowledge, items = ranker.knowledge, sum(ranker.vocabulary)
        missing = lacking(knowledge, self._position)
        is_quiet = self._is_quiet
        lists = self._maker.make(interests, rebuilt=True)
        room = self._publisher.room(RECOMMENDATIONS)
        records = [list_record(topk, {}, room)[0] for topk in lists]
        encoded = [
            EncodedList(topk.user_id, topk.state_version, record.value or b"", bool(topk.hidden))
            for topk, record in zip(lists, records, strict=True)
        ]
        written = self._store.replace_lists(encoded)
        kept = list(compress(lists, written))
        self._publisher.publish(list(compress(records, written)))
        made = Made.COMPLETE if not missing and is_quiet else Made.BEHIND
        is_good = knowledge.version and not is_undone(knowledge, ranker.knowledge)
        if not is_good or not is_tolerable(knowledge.events, missing):
            made = Made.POOR
        marks = marks_of(kept, made=made, knowledge=knowledge, top_k=self._maker.top_k, items=items)
        # a list made meanwhile has its own marks
        self._marks.mark(marks, list(compress(encoded, written)))
        made_for = {interest.user_id for interest in interests}
        self._marks.drop(
            {user_id: origin for user_id, origin in zip(users, origins, strict=True) if user_id not in made_for}
        )
        self.rebuilt += len(kept)
