"""The `retention` use case: events, lists and impressions become activity, attribution and counts by day and arm.

A batch is one transaction of the store, including the positions. Bad records are counted and skipped. Dead letters of
`impressions` and `items` are written here, those of `clicks` and `purchases` by `interests`: one worker per topic
writes them, one that keeps positions. `items` is read only for this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Annotated

import msgspec

from streamrec.contracts.decode import (
    check_event_time,
    decode_event,
    decode_impression,
    decode_item,
    decode_own,
    deleted_by,
)
from streamrec.contracts.incoming import EventTimeMs, Id, Impression
from streamrec.contracts.topics import (
    EVENT_TOPICS,
    FEEDBACK,
    IMPRESSIONS,
    ITEMS,
    RECOMMENDATIONS,
    dead_letter_topic,
    topic_of,
)
from streamrec.domain.event import Event, EventType
from streamrec.domain.retention import RememberedList, UserRetention, day_of, item_hashes
from streamrec.errors import BadRecordError
from streamrec.service.batch import Batch, Positions, Record, TopicPartition, follow_on, positions_of
from streamrec.service.dead_letter import dead_letter
from streamrec.service.ports import Publisher
from streamrec.service.retention_ports import Counts, Followed, RetentionChanges, RetentionStore
from streamrec.service.tally import Tally

STAGE = "retention"

DEAD_LETTERED = frozenset({IMPRESSIONS, ITEMS})
"""Topics whose dead letters are written here."""

_MINUTE_MS = 60_000


class _EarlierItem(msgspec.Struct, frozen=True):
    """An item in lists of releases that stored an object for each."""

    item_id: str


class _MadeItems(msgspec.Struct, frozen=True):
    ids: Annotated[list[str], msgspec.Meta(max_length=1_000)]


class _MadeList(msgspec.Struct, frozen=True):
    """The fields of a `TopKList` that retention needs; the others are not decoded."""

    list_id: Id
    user_id: Id
    event_time_ms: EventTimeMs
    items: _MadeItems | Annotated[list[_EarlierItem], msgspec.Meta(max_length=1_000)]

    @property
    def item_ids(self) -> list[str]:
        """The items, best first."""
        if isinstance(self.items, _MadeItems):
            return self.items.ids
        return [item.item_id for item in self.items]


_list_decoder = msgspec.json.Decoder(_MadeList)

Message = Event | _MadeList | Impression
Refused = tuple[TopicPartition, Record, BadRecordError]


class RecordRetention:
    """Records activity by user and day, clicked lists, and counts by arm.

    Parameters
    ----------
    store, publisher
        Store of retention, and publisher of dead letters.
    arm_of
        Assigns the arm of a user.
    follow_window_minutes
        Attribution window of events that do not name a list, for the user's latest list.
    zone
        Time zone of the days; a store has a single one.
    """

    def __init__(
        self,
        store: RetentionStore,
        publisher: Publisher,
        *,
        arm_of: Callable[[str], str],
        follow_window_minutes: int,
        zone: tzinfo = UTC,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._arm_of = arm_of
        self._window_ms = follow_window_minutes * _MINUTE_MS
        self._zone = zone
        self._sent: Batch | None = None
        """The batch whose dead letters are acknowledged: they are not sent again while only the store is
        unavailable."""
        self.tally = Tally()
        """Counts of the last batch."""

    def handle(self, batch: Batch) -> Positions:
        """Record a batch, and return the store's position of each of its sources.

        A slice that does not start at the store's position is skipped: the caller seeks to that position.

        Raises
        ------
        TransientError
            If the store or the broker is unavailable; the same batch can be handed in again.
        """
        self.tally = Tally()
        decoded = _decode_all(batch)
        messages = decoded.messages
        arms = {message.user_id: self._arm_of(message.user_id) for message in messages}
        with self._store.transaction() as transaction:
            stored = transaction.lock_positions([part.source for part in batch.slices])
            if not follow_on(batch.slices, stored):
                return positions_of(batch.slices, stored)
            work = _Work(transaction.lock_users(arms), arms, self._window_ms, self._zone)
            for message in messages:
                work.take(message)
            positions = {part.source: part.next for part in batch.slices}
            self._send_dead_letters(batch, decoded.refused)
            transaction.write(work.changes, positions)
        self._sent = None
        letters = sum(source.topic in DEAD_LETTERED for source, _, _ in decoded.refused)
        self.tally.outcomes.update(
            {
                "applied": len(batch) - len(decoded.refused),
                "dead-lettered": letters,
                "refused": len(decoded.refused) - letters,
            }
        )
        self.tally.refused.update((source.topic, error.reason) for source, _, error in decoded.refused)
        self.tally.dropped = decoded.dropped
        self.tally.produced_at_ms = [record.timestamp_ms for source, record in batch if source.topic in EVENT_TOPICS]
        return positions

    def _send_dead_letters(self, batch: Batch, refused: Sequence[Refused]) -> None:
        """Publish the dead letters of a batch before its positions are written."""
        if self._sent is batch:
            return
        letters = [
            dead_letter(*each, STAGE, self._publisher.room(dead_letter_topic(each[0].topic)))
            for each in refused
            if each[0].topic in DEAD_LETTERED
        ]
        if letters:
            self._publisher.publish(letters)
        self._sent = batch


@dataclass(slots=True)
class _Decoded:
    """A decoded batch: valid messages, in order, and refused records."""

    messages: list[Message] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Dropped optional fields, by topic and name; `interests` counts those of events."""


@dataclass(slots=True)
class _Work:
    """Changes by a batch, accumulated message by message."""

    users: dict[str, UserRetention]
    arms: dict[str, str]
    window_ms: int
    zone: tzinfo
    changes: RetentionChanges = field(init=False)

    def __post_init__(self) -> None:
        self.changes = RetentionChanges(self.users, self.arms)

    def take(self, message: Message) -> None:
        match message:
            case Event():
                self._take_event(message)
            case _MadeList():
                made = RememberedList(message.list_id, message.event_time_ms, item_hashes(message.item_ids))
                if self.users[message.user_id].remember(made):
                    self._counts(message).lists += 1
            case Impression():
                self._counts(message).impressions += 1

    def _take_event(self, event: Event) -> None:
        user = self.users[event.user_id]
        if not user.record(event, self.zone):
            return
        counts = self._counts(event)
        active = self.changes.activity.setdefault((event.user_id, day_of(event.event_time_ms, self.zone)), Counts())
        if topic_of(event.source.event_type) == FEEDBACK:
            return  # activity, but no click or purchase
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
        return self.changes.counts.setdefault(
            (day_of(message.event_time_ms, self.zone), self.arms[message.user_id]), Counts()
        )


def _decode_all(batch: Batch) -> _Decoded:
    decoded = _Decoded()
    for source, record in batch:
        dropped: list[str] = []
        try:
            message = _decode(source, record, dropped)
        except BadRecordError as error:
            decoded.refused.append((source, record, error))
            continue
        decoded.dropped.update((source.topic, name) for name in dropped)
        if message is not None:
            decoded.messages.append(message)
    return decoded


def _decode(source: TopicPartition, record: Record, dropped: list[str]) -> Message | None:
    """Return the message to record, `None` for a valid record of `items`."""
    record.check()
    if source.topic == ITEMS:
        if record.value is None:
            deleted_by(record.key)
        else:
            decode_item(record.value, record.key, dropped=dropped)
        return None
    if source.topic == RECOMMENDATIONS:
        made = decode_own(_list_decoder, record.value)
        check_event_time(made.event_time_ms, record.timestamp_ms)
        return made
    if source.topic == IMPRESSIONS:
        impression = decode_impression(record.value, dropped=dropped)
        check_event_time(impression.event_time_ms, record.timestamp_ms)
        return impression
    return decode_event(source, record.offset, record.timestamp_ms, record.value, record.headers)
