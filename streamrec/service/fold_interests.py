"""The `interests` use case: events become interest states, and each new state a `user-interests` record.

Order of operations, per batch:

1. read the states of its users and the progress of its partitions, or take them as they were written last;
2. fold;
3. publish `user-interests` and dead letters, and wait for the acknowledgements;
4. write states and progress in one compare-and-set.

A crash before 4 leaves the store unchanged: the batch is read again and its derived records are published again, which
consumers fence by the source positions in them. If only 4 fails, only 4 is repeated when the batch is handed in again.
If the store was written meanwhile (two workers share a user, or a zombie woke up), 4 is rejected, and the batch is
folded again into the new states.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from streamrec.contracts.decode import ID_REUSED, decode_event
from streamrec.contracts.derived import EventPosition
from streamrec.contracts.headers import traced
from streamrec.contracts.topics import USER_INTERESTS, dead_letter_topic, topic_of
from streamrec.domain.event import Event
from streamrec.domain.interest import FoldRules, Outcome
from streamrec.errors import BadRecordError, TooManyDeadLettersError, TransientError
from streamrec.service.batch import Batch, Positions, Record, TopicPartition, follow_on
from streamrec.service.dead_letter import dead_letter
from streamrec.service.interest_record import Changed, interest_record
from streamrec.service.ports import InterestSnapshot, InterestStore, Outgoing, Publisher
from streamrec.service.tally import Tally

STAGE = "interests"

DEAD_LETTER_WINDOW = 1_000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Decoded:
    """A decoded batch: valid events, in order, and refused records."""

    events: list[tuple[Event, Record]] = field(default_factory=list)
    refused: list[tuple[TopicPartition, Record, BadRecordError]] = field(default_factory=list)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Dropped optional fields, by topic and name."""


@dataclass(slots=True)
class _Begun:
    """A batch whose derived records are acknowledged, and which may not be stored yet."""

    batch: Batch
    snapshot: InterestSnapshot
    recent: deque[bool]
    tally: Tally


class FoldInterests:
    """Folds batches of events into the interest states of their users.

    Parameters
    ----------
    store, publisher
        Store of states, and publisher of derived records.
    rules
        What states keep of events.
    dead_letter_limit
        Maximum share of refused records among the last `DEAD_LETTER_WINDOW`: more indicates a bad deployment.
    """

    def __init__(
        self,
        store: InterestStore,
        publisher: Publisher,
        rules: FoldRules,
        *,
        dead_letter_limit: float = 0.5,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._rules = rules
        self._dead_letter_limit = dead_letter_limit
        self._recent: deque[bool] = deque(maxlen=DEAD_LETTER_WINDOW)
        self._begun: _Begun | None = None
        self.tally = Tally()
        """Counts of the last batch."""

    def handle(self, batch: Batch) -> Positions:
        """Apply a batch, and return the store's position of each of its sources.

        A slice that does not start at the store's position is skipped: the caller seeks to that position.

        Raises
        ------
        TransientError
            If a store or the broker is unavailable, or another worker wrote meanwhile; the same batch can be handed in
            again.
        TooManyDeadLettersError
            If most of the recent records were refused; nothing of the batch was written.
        """
        self.tally = Tally()
        begun, self._begun = self._begun, None
        if begun is None or begun.batch is not batch:
            decoded = _decode(batch)
            user_ids = list(dict.fromkeys(event.user_id for event, _ in decoded.events))
            sources = [part.source for part in batch.slices]
            snapshot = self._store.load(user_ids, sources)
            stored = {source: progress.next_offset or 0 for source, progress in snapshot.progress.items()}
            if not follow_on(batch.slices, stored):
                return stored
            changed = self._fold(batch, decoded, snapshot)
            recent = self._guard(batch, decoded)
            self._publisher.publish(self._derived(changed, decoded, snapshot))
            begun = _Begun(batch, snapshot, recent, self.tally)
        return self._write(begun)

    def _write(self, begun: _Begun) -> Positions:
        """Write the published batch; if the store fails, a second call repeats only this."""
        self._begun = begun
        written = self._store.compare_and_set(begun.snapshot)
        self._begun = None
        if not written:
            raise TransientError("another worker wrote the same users or positions meanwhile")
        self.tally = begun.tally
        self._recent = begun.recent  # not earlier: a batch that is handed in again counts once
        return {part.source: part.next for part in begun.batch.slices}

    def _guard(self, batch: Batch, decoded: _Decoded) -> deque[bool]:
        """Stop before a bad deployment dead-letters a whole topic; return which recent records were refused."""
        refused = {(source, record.offset) for source, record, _ in decoded.refused}
        recent = deque(self._recent, maxlen=DEAD_LETTER_WINDOW)
        recent.extend((source, record.offset) in refused for source, record in batch)
        if len(recent) == DEAD_LETTER_WINDOW and sum(recent) > self._dead_letter_limit * DEAD_LETTER_WINDOW:
            last = decoded.refused[-1][2] if decoded.refused else "none in this batch"
            raise TooManyDeadLettersError(
                f"{sum(recent)} of the last {DEAD_LETTER_WINDOW} records were refused, the last one because: {last}"
            )
        return recent

    def _fold(self, batch: Batch, decoded: _Decoded, snapshot: InterestSnapshot) -> dict[str, Changed]:
        """Fold the batch into the snapshot and return what it added to each state; conflicts are refused, too."""
        changed: dict[str, Changed] = {}
        self.tally = Tally(dropped=decoded.dropped)
        for event, record in decoded.events:
            state = snapshot.states[event.user_id]
            outcome = state.fold(event, self._rules)
            source = TopicPartition(topic_of(event.source.event_type), event.source.partition)
            if outcome is Outcome.CONFLICT:
                decoded.refused.append((source, record, BadRecordError(ID_REUSED, _REUSED)))
                continue
            progress = snapshot.progress[source]
            if outcome is Outcome.DUPLICATE:
                progress.duplicates += 1
                self.tally.outcomes["duplicate"] += 1
                continue
            progress.applied += 1
            self.tally.outcomes["applied"] += 1
            self.tally.produced_at_ms.append(record.timestamp_ms)
            # a fenced event is already in the state, but its record may not have been published: publish it again
            user = changed.setdefault(event.user_id, Changed())
            user.new.append(EventPosition(event.source.event_type, event.source.partition, event.offset))
            if record.timestamp_ms >= user.produced_at_ms:
                user.produced_at_ms, user.headers = record.timestamp_ms, traced(record.headers)
        for source, _, error in decoded.refused:
            snapshot.progress[source].dead_lettered += 1
            self.tally.outcomes["dead-lettered"] += 1
            self.tally.refused[source.topic, error.reason] += 1
        for part in batch.slices:
            snapshot.progress[part.source].next_offset = part.next
        return changed

    def _derived(
        self, changed: Mapping[str, Changed], decoded: _Decoded, snapshot: InterestSnapshot
    ) -> Iterator[Outgoing]:
        """Yield the record of each changed state, and dead letters."""
        room = self._publisher.room(USER_INTERESTS)
        for user_id, user in changed.items():
            record, left_out = interest_record(user_id, snapshot.states[user_id], user, room, self._rules.weights)
            yield record
            if left_out:
                self.tally.shortened[USER_INTERESTS] += 1
                _log.warning("sequence shortened", user_id=user_id[:80], left_out=left_out, room_bytes=room)
        for source, refused, error in decoded.refused:
            room = self._publisher.room(dead_letter_topic(source.topic))
            yield dead_letter(source, refused, error, STAGE, room)


_REUSED = (
    "an earlier event of this user has the same id, but another item or event time: give each event its own id; "
    "`streamrec dlq replay --reason id-reused` applies this one with its position as id"
)


def _decode(batch: Batch) -> _Decoded:
    decoded = _Decoded()
    dropped: list[str] = []
    for source, record in batch:
        try:
            record.check()
            event = decode_event(
                source, record.offset, record.timestamp_ms, record.value, record.headers, dropped=dropped
            )
        except BadRecordError as error:
            decoded.refused.append((source, record, error))
        else:
            decoded.events.append((event, record))
            decoded.dropped.update((source.topic, name) for name in dropped)
        dropped.clear()
    return decoded
