"""The `interests` use case: clicks and purchases become interest states, and each new state a `user-interests` record.

Order of work, for a batch:

1. read the states of its users and the progress of its partitions together;
2. fold;
3. publish `user-interests` and dead letters, and wait until the broker has them;
4. write states and progress in one compare-and-set.

A crash before 4 leaves the store as it was: the batch is read again and its derived records come again, which consumers
fence by the source positions in them. A store that was written meanwhile (two workers share a user, or a zombie woke
up) refuses 4, and the batch is handed in again and folded into what is there then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from streamrec.contracts.decode import decode_event
from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.contracts.headers import traced
from streamrec.contracts.topics import EVENT_TYPES, USER_INTERESTS
from streamrec.domain.event import Event, Source
from streamrec.domain.interest import InterestState, Outcome, category_transitions, summarise
from streamrec.errors import BadRecordError, TooManyDeadLettersError, TransientError
from streamrec.service.batch import Batch, Positions, Record, TopicPartition, follow_on
from streamrec.service.dead_letter import dead_letter
from streamrec.service.ports import InterestSnapshot, InterestStore, Outgoing, Publisher
from streamrec.service.tally import Tally

STAGE = "interests"

DEAD_LETTER_WINDOW = 1_000

SUMMARY_SIZE = 10
"""So many of the strongest categories and items travel in the summary of a state."""

_encoder = msgspec.json.Encoder()

K = TypeVar("K")
T = TypeVar("T")


@dataclass(slots=True)
class _Decoded:
    """A batch after decoding: what can be folded, in order, and what cannot."""

    events: list[tuple[Event, Record]] = field(default_factory=list)
    refused: list[tuple[TopicPartition, Record, BadRecordError]] = field(default_factory=list)


class FoldInterests:
    """Folds batches of clicks and purchases into the interest states of their users.

    Parameters
    ----------
    store, publisher
        Where states are kept, and where derived records go.
    sequence_length
        Newest events kept in a user's sequence.
    dead_letter_limit
        Share of the last `DEAD_LETTER_WINDOW` records that may be refused: more is a bad deploy, not bad data.
    """

    def __init__(
        self, store: InterestStore, publisher: Publisher, *, sequence_length: int, dead_letter_limit: float = 0.5
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._sequence_length = sequence_length
        self._dead_letter_limit = dead_letter_limit
        self._recent: deque[bool] = deque(maxlen=DEAD_LETTER_WINDOW)
        self.tally = Tally()
        """What the last batch came to."""

    def handle(self, batch: Batch) -> Positions:
        """Apply a batch, and return the store's position of each of its sources.

        A slice that does not start at the store's position is left alone: the caller goes to that position.

        Raises
        ------
        TransientError
            If a store or the broker is away, or another worker wrote meanwhile; the same batch can be handed in again.
        TooManyDeadLettersError
            If most of the recent records were refused; nothing of the batch was written.
        """
        self.tally = Tally()
        decoded = _decode(batch)
        recent = self._guard(batch, decoded)
        user_ids = list(dict.fromkeys(event.user_id for event, _ in decoded.events))
        sources = [part.source for part in batch.slices]
        snapshot = self._store.load(user_ids, sources)
        stored = {source: progress.next_offset or 0 for source, progress in snapshot.progress.items()}
        if not follow_on(batch.slices, stored):
            return stored
        derived = self._fold(batch, decoded, snapshot)
        self._publisher.publish(derived)
        if not self._store.compare_and_set(snapshot):
            raise TransientError("another worker wrote the same users or positions meanwhile")
        self._recent = recent  # not before: a batch that is handed in again counts once
        return {part.source: part.next for part in batch.slices}

    def _guard(self, batch: Batch, decoded: _Decoded) -> deque[bool]:
        """Stop before a bad deploy moves a topic to the dead letters; return which recent records were refused."""
        refused = {(source, record.offset) for source, record, _ in decoded.refused}
        recent = deque(self._recent, maxlen=DEAD_LETTER_WINDOW)
        recent.extend((source, record.offset) in refused for source, record in batch)
        if len(recent) == DEAD_LETTER_WINDOW and sum(recent) > self._dead_letter_limit * DEAD_LETTER_WINDOW:
            last = decoded.refused[-1][2] if decoded.refused else "none in this batch"
            raise TooManyDeadLettersError(
                f"{sum(recent)} of the last {DEAD_LETTER_WINDOW} records were refused, the last one because: {last}"
            )
        return recent

    def _fold(self, batch: Batch, decoded: _Decoded, snapshot: InterestSnapshot) -> list[Outgoing]:
        """Fold the batch into the snapshot and return what follows from it."""
        changed: dict[str, _Changed] = {}
        self.tally = Tally()
        for event, record in decoded.events:
            state = snapshot.states[event.user_id]
            outcome = state.fold(event, sequence_length=self._sequence_length)
            progress = snapshot.progress[TopicPartition(_TOPICS[event.source.event_type], event.source.partition)]
            if outcome is Outcome.DUPLICATE:
                progress.duplicates += 1
                self.tally.outcomes["duplicate"] += 1
                continue
            progress.applied += 1
            self.tally.outcomes["applied"] += 1
            self.tally.produced_at_ms.append(record.timestamp_ms)
            # a fenced event is in the state already, but its record may not have gone out: it is sent again
            user = changed.setdefault(event.user_id, _Changed())
            user.new.append(EventPosition(event.source.event_type, event.source.partition, event.offset))
            if record.timestamp_ms >= user.produced_at_ms:
                user.produced_at_ms, user.headers = record.timestamp_ms, traced(record.headers)
        for source, _, error in decoded.refused:
            snapshot.progress[source].dead_lettered += 1
            self.tally.outcomes["dead-lettered"] += 1
            self.tally.refused[source.topic, error.reason] += 1
        for part in batch.slices:
            snapshot.progress[part.source].next_offset = part.next
        derived = [_user_interest(user_id, snapshot.states[user_id], user) for user_id, user in changed.items()]
        return derived + [dead_letter(*refused, STAGE) for refused in decoded.refused]


@dataclass(slots=True)
class _Changed:
    new: list[EventPosition] = field(default_factory=list)
    produced_at_ms: int = 0
    headers: dict[str, bytes] = field(default_factory=dict)
    """What the newest of them says of its trace."""


_TOPICS = {event_type: topic for topic, event_type in EVENT_TYPES.items()}


def _decode(batch: Batch) -> _Decoded:
    decoded = _Decoded()
    for source, record in batch:
        origin = Source(EVENT_TYPES[source.topic], source.partition)
        try:
            event = decode_event(origin, record.offset, record.timestamp_ms, record.value, record.headers)
        except BadRecordError as error:
            decoded.refused.append((source, record, error))
        else:
            decoded.events.append((event, record))
    return decoded


def _user_interest(user_id: str, state: InterestState, changed: _Changed) -> Outgoing:
    interest = summarise(state)
    transitions = category_transitions(state.sequence)
    message = UserInterest(
        user_id=user_id,
        # not the version of the write: a store that came back older would begin again at a lower one
        state_version=state.events_count,
        event_time_ms=state.sequence[-1].event_time_ms,
        produced_at_ms=changed.produced_at_ms,
        sequence=state.sequence,
        new=changed.new,
        short_term=dict(_strongest(interest.short_term, _itself)),
        long_term=dict(_strongest(interest.long_term, max)),
        long_term_items=dict(_strongest(interest.long_term_items, max)),
        transitions=[(*step, count) for step, count in _strongest(transitions, _itself)],
        events_count=state.events_count,
    )
    return Outgoing(USER_INTERESTS, user_id.encode(), _encoder.encode(message), changed.headers)


def _itself(weight: float) -> float:
    return weight


def _strongest(weights: dict[K, T], strength: Callable[[T], float]) -> list[tuple[K, T]]:
    """Return the strongest first; of equal ones the one that came first."""
    if len(weights) <= 1:
        return list(weights.items())
    return sorted(weights.items(), key=lambda pair: strength(pair[1]), reverse=True)[:SUMMARY_SIZE]
