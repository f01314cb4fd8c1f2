"""What streamrec produces: user interests, top-K lists and model updates.

A derived record carries the source positions that it contains. After a crash it may be published again at a new offset;
consumers fence on those positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from streamrec.contracts.incoming import Id
from streamrec.contracts.listed_items import ListedItems
from streamrec.domain.event import EventType
from streamrec.domain.event_context import CONTEXT_CODES, MAX_CONTEXT_KEYS
from streamrec.domain.interest import HALF_LIVES_DAYS, SequenceEvent

UnixMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="Unix milliseconds, UTC.")]
Count = Annotated[int, Meta(ge=0, le=9_007_199_254_740_992)]
"""Largest integer that is exact in every reader: some represent numbers as doubles."""
Type = Annotated[int, Meta(ge=0, le=int(max(EventType)))]
SignedType = Annotated[int, Meta(ge=-int(max(EventType)), le=int(max(EventType)))]
ContextCode = Annotated[int, Meta(ge=1, le=CONTEXT_CODES)]
Partition = Annotated[int, Meta(ge=0, le=2_147_483_647)]
Version = Annotated[int, Meta(ge=0, le=9_223_372_036_854_775_807)]
Offset = Annotated[int, Meta(ge=0, le=9_223_372_036_854_775_807)]
Weights = Annotated[list[float], Meta(min_length=len(HALF_LIVES_DAYS), max_length=len(HALF_LIVES_DAYS))]


class EventPosition(Struct, frozen=True, array_like=True):
    """Position of an event in the log: event type, partition, offset.

    Event types: 0 click, 1 purchase, 2 view, 3 add to cart, 4 favourite, 5 like, 6 share, 7 comment, 8 watch, 9 rating,
    10 dislike, 11 return.
    """

    event_type: Type
    partition: Partition
    offset: Offset


if TYPE_CHECKING:
    ListedEvent = SequenceEvent  # records are built from the events of a state unchanged
else:

    class ListedEvent(SequenceEvent):
        """An event of a decoded sequence: event time, event type, partition, offset, item id, category, context.

        The event type is negative if the user did not like the item: -10 for a dislike, -9 for a low rating.
        """

        __slots__ = ()

        event_time_ms: UnixMs
        event_type: SignedType
        partition: Partition
        offset: Offset
        item_id: Annotated[str, Meta(min_length=1, max_length=256)]
        category: Annotated[str, Meta(max_length=256)]
        context: Annotated[tuple[ContextCode, ...], Meta(max_length=MAX_CONTEXT_KEYS)] = ()


class UserInterest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user's interest state after new events. Topic `user-interests`, key: the user id."""

    user_id: Id
    state_version: Version
    """Of two records of a user, the one with the higher version is newer, even if states were lost, expired or folded
    again in between: the version grows with the event time of the newest event and with the number of events."""
    event_time_ms: UnixMs
    """Event time of the newest event in the state."""
    produced_at_ms: UnixMs
    """When the newest of the new events was produced: freshness is measured from here."""
    sequence: Annotated[list[ListedEvent], Meta(min_length=1)]
    """The latest events, oldest first; fewer than the state holds if they exceed the topic's record size limit."""
    new: list[EventPosition]
    """The events that are new in this record; an event older than the whole sequence is not in the sequence."""
    short_term: dict[str, float]
    """Weight of each category in the latest session, strongest first, at most ten."""
    long_term: dict[str, Weights]
    """Decayed weight of each category with half-lives of 1, 7 and 30 days, strongest first, at most ten."""
    long_term_items: dict[str, Weights]
    """The same for items."""
    transitions: list[tuple[str, str, Count]]
    """Transitions between categories within sessions, most frequent first, at most ten."""
    events_count: Count
    seen_before: list[Id] = []
    """Seen items that are hidden although their events have left the sequence; only with `STREAMREC_HIDE_SEEN`. At most
    200: purchases first, then the latest clicks."""
    disliked_before: list[Id] = []
    """Items that are hidden because of dislikes that have left the sequence, at most 200."""

    def new_indices(self) -> list[int]:
        """Return the ascending indices of new events in the sequence; late events are not at its end."""
        new = {(position.event_type, position.partition, position.offset) for position in self.new}
        return [
            index
            for index, event in enumerate(self.sequence)
            if (abs(event.event_type), event.partition, event.offset) in new
        ]

    def hidden(self, *, seen: bool) -> set[str]:
        """Return the items that lists leave out: those that the user did not like, and those seen.

        Parameters
        ----------
        seen
            Whether seen items are left out, too.
        """
        last = {event.item_id: event.event_type for event in self.sequence}
        if seen:
            return {*last, *self.seen_before, *self.disliked_before}
        return {item_id for item_id, event_type in last.items() if event_type < 0} | set(self.disliked_before)

    @property
    def is_whole(self) -> bool:
        """Whether the sequence holds all of the user's events."""
        return self.events_count <= len(self.sequence)


class TopKList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user's list, always complete. Topic `recommendations`, key: the user id; and Redis key `rec:<user_id>`."""

    state_version: Version
    """Version of the interest state that the list was made from; the first field, so that a store can compare it
    without parsing."""
    list_id: Id
    user_id: str
    """Empty in the default list `rec-default`."""
    items: ListedItems
    model_version: str
    """Empty before the first model."""
    arm: str
    event_time_ms: UnixMs
    """Event time of the newest event that the list takes into account."""
    produced_at_ms: UnixMs
    """When that event was produced."""
    made_at_ms: UnixMs
    rebuilt: bool = False
    """Whether it replaces a list made from the same state: no event triggered it, and `produced_at_ms` does not count
    for freshness."""
    hidden: bytes = b""
    """Hidden items, disliked ones and, with `STREAMREC_HIDE_SEEN`, seen ones: the CRC-32 of each item id in UTF-8, four
    bytes each, little-endian, ascending, in base64. Readers that add items to the list must leave these out."""
