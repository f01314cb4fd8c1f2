"""The `retention` use case: events, lists and impressions become activity, attribution and counts by day and arm.

All of a batch is one transaction of the store, with the positions in it. Bad records are counted and passed
over: `interests` writes those of `clicks` and `purchases` to the dead letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from streamrec.contracts.decode import check_event_time, decode_event, decode_impression, decode_own
from streamrec.contracts.incoming import EventTimeMs, Id, Impression
from streamrec.contracts.topics import EVENT_TYPES, IMPRESSIONS, RECOMMENDATIONS
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.retention import RememberedList, UserRetention, day_of, item_hashes
from streamrec.errors import BadRecordError
from streamrec.service.batch import Batch, Positions, Record, TopicPartition, follow_on, positions_of
from streamrec.service.ports import Counts, Followed, RetentionChanges, RetentionStore
from streamrec.service.tally import Tally

_MINUTE_MS = 60_000


class _MadeItem(msgspec.Struct, frozen=True):
    item_id: str


class _MadeList(msgspec.Struct, frozen=True):
    """What retention needs of a `TopKList`: the rest of it is not even decoded."""

    list_id: Id
    user_id: Id
    event_time_ms: EventTimeMs
    items: Annotated[list[_MadeItem], msgspec.Meta(max_length=1_000)]


_list_decoder = msgspec.json.Decoder(_MadeList)

Message = Event | _MadeList | Impression


class RecordRetention:
    """Records who was active when, which lists were followed, and what each arm did.

    Parameters
    ----------
    store
        Where it is kept.
    arm_of
        Assigns the arm of a user.
    follow_window_minutes
        For so long an event that names no list follows the user's newest one.
    """

    def __init__(self, store: RetentionStore, *, arm_of: Callable[[str], str], follow_window_minutes: int) -> None:
        self._store = store
        self._arm_of = arm_of
        self._window_ms = follow_window_minutes * _MINUTE_MS
        self.tally = Tally()
        """What the last batch came to."""

    def handle(self, batch: Batch) -> Positions:
        """Record a batch, and return the store's position of each of its sources.

        A slice that does not start at the store's position is left alone: the caller goes to that position.

        Raises
        ------
        TransientError
            If the store is away; the same batch can be handed in again.
        """
        self.tally = Tally()
        messages, refused = _decode_all(batch)
        arms = {message.user_id: self._arm_of(message.user_id) for message in messages}
        with self._store.transaction() as transaction:
            stored = transaction.lock_positions([part.source for part in batch.slices])
            if not follow_on(batch.slices, stored):
                return positions_of(batch.slices, stored)
            work = _Work(transaction.lock_users(arms), arms, self._window_ms)
            for message in messages:
                work.take(message)
            positions = {part.source: part.next for part in batch.slices}
            transaction.write(work.changes, positions)
        self.tally.outcomes.update(applied=len(messages), refused=refused.total())
        self.tally.refused = refused
        self.tally.produced_at_ms = [record.timestamp_ms for source, record in batch if source.topic in EVENT_TYPES]
        return positions


@dataclass(slots=True)
class _Work:
    """What a batch changes, gathered message by message."""

    users: dict[str, UserRetention]
    arms: dict[str, str]
    window_ms: int
    changes: RetentionChanges = field(init=False)

    def __post_init__(self) -> None:
        self.changes = RetentionChanges(self.users, self.arms)

    def take(self, message: Message) -> None:
        match message:
            case Event():
                self._take_event(message)
            case _MadeList():
                made = RememberedList(
                    message.list_id, message.event_time_ms, item_hashes(item.item_id for item in message.items)
                )
                if self.users[message.user_id].remember(made):
                    self._counts(message).lists += 1
            case Impression():
                self._counts(message).impressions += 1

    def _take_event(self, event: Event) -> None:
        user = self.users[event.user_id]
        if not user.record(event):
            return
        counts = self._counts(event)
        active = self.changes.activity.setdefault((event.user_id, day_of(event.event_time_ms)), Counts())
        list_id = user.followed(event, window_ms=self.window_ms)
        follow = self.changes.followed.setdefault(list_id, Followed(event.user_id)) if list_id else Followed("")
        if list_id:
            follow.first_followed_at_ms = min(follow.first_followed_at_ms or event.event_time_ms, event.event_time_ms)
        if event.source.event_type is EventType.CLICK:
            counts.clicks += 1
            active.clicks += 1
            follow.clicks += 1
            counts.followed_clicks += bool(list_id)
        else:
            counts.purchases += 1
            active.purchases += 1
            follow.purchases += 1
            counts.followed_purchases += bool(list_id)

    def _counts(self, message: Message) -> Counts:
        return self.changes.counts.setdefault((day_of(message.event_time_ms), self.arms[message.user_id]), Counts())


def _decode_all(batch: Batch) -> tuple[list[Message], Counter[tuple[str, str]]]:
    """Return what can be recorded, and how often what could not, by topic and reason."""
    messages: list[Message] = []
    refused: Counter[tuple[str, str]] = Counter()
    for source, record in batch:
        try:
            messages.append(_decode(source, record))
        except BadRecordError as error:
            refused[source.topic, error.reason] += 1
    return messages, refused


def _decode(source: TopicPartition, record: Record) -> Message:
    if source.topic == RECOMMENDATIONS:
        made = decode_own(_list_decoder, record.value)
        check_event_time(made.event_time_ms, record.timestamp_ms)
        return made
    if source.topic == IMPRESSIONS:
        impression = decode_impression(record.value)
        check_event_time(impression.event_time_ms, record.timestamp_ms)
        return impression
    origin = Source(EVENT_TYPES[source.topic], source.partition)
    return decode_event(origin, record.offset, record.timestamp_ms, record.value, record.headers)
