"""What streamrec produces: user interests, top-K lists and model updates.

A derived record carries the source positions that it contains. After a crash it may come again at a new offset;
consumers fence on those positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from streamrec.contracts.incoming import Id
from streamrec.domain.interest import HALF_LIVES_DAYS, SequenceEvent

UnixMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="Unix milliseconds, UTC.")]
Count = Annotated[int, Meta(ge=0, le=9_007_199_254_740_992)]
"""Exact in every reader: some hold numbers as doubles."""
Type = Annotated[int, Meta(ge=0, le=1)]
Partition = Annotated[int, Meta(ge=0, le=2_147_483_647)]
Version = Annotated[int, Meta(ge=0, le=9_223_372_036_854_775_807)]
Offset = Annotated[int, Meta(ge=0, le=9_223_372_036_854_775_807)]
Weights = Annotated[list[float], Meta(min_length=len(HALF_LIVES_DAYS), max_length=len(HALF_LIVES_DAYS))]
Channel = Literal["model", "neighbour", "popular", "recent"]


class EventPosition(Struct, frozen=True, array_like=True):
    """Where an event stands in the log: event type (0 click, 1 purchase), partition, offset."""

    event_type: Type
    partition: Partition
    offset: Offset


if TYPE_CHECKING:
    ListedEvent = SequenceEvent  # whoever makes a record takes the events of a state as they are
else:

    class ListedEvent(SequenceEvent):
        """An event of a sequence as it is read: event time, event type, partition, offset, item id, category."""

        __slots__ = ()

        event_time_ms: UnixMs
        event_type: Type
        partition: Partition
        offset: Offset
        item_id: Annotated[str, Meta(min_length=1, max_length=256)]
        category: Annotated[str, Meta(max_length=256)]


class UserInterest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user's interest state after new events. Topic `user-interests`, key: the user id."""

    user_id: Id
    state_version: Version
    """Of two records of a user the higher one is newer, whatever was lost, expired or folded again in between: it grows
    with the event time of the newest event, and with the number of events."""
    event_time_ms: UnixMs
    """Event time of the newest event in the state."""
    produced_at_ms: UnixMs
    """When the newest of the new events was produced: freshness counts from here."""
    sequence: Annotated[list[ListedEvent], Meta(min_length=1)]
    """The newest events, oldest first; fewer than are kept where all of them do not fit in a record of the topic."""
    new: list[EventPosition]
    """Which events are new in this record; one that is older than the whole sequence is not in it."""
    short_term: dict[str, float]
    """Weight of each category in the newest session, strongest first, at most ten."""
    long_term: dict[str, Weights]
    """Decayed weight of each category with half-lives of 1, 7 and 30 days, strongest first, at most ten."""
    long_term_items: dict[str, Weights]
    """The same of items."""
    transitions: list[tuple[str, str, Count]]
    """Steps from one category to the next inside sessions, most frequent first, at most ten."""
    events_count: Count
    seen_before: list[Id] = []
    """Items that the user's lists hide although their events have left the sequence, with `STREAMREC_HIDE_SEEN` alone;
    at most 200: purchases first, then the latest clicks."""

    def new_indices(self) -> list[int]:
        """Return where the sequence holds new events, ascending; one that came late is not at its end."""
        new = {(position.event_type, position.partition, position.offset) for position in self.new}
        return [
            index
            for index, event in enumerate(self.sequence)
            if (event.event_type, event.partition, event.offset) in new
        ]

    @property
    def is_whole(self) -> bool:
        """Whether the sequence holds all of the user's events."""
        return self.events_count <= len(self.sequence)


class Reason(Struct, gc=False, frozen=True, omit_defaults=True):
    """Why an item is in a list."""

    channel: Channel
    item_id: str | None = None
    """The item of the user's own that led to it, where one did."""


class ListItem(Struct, gc=False, frozen=True):
    """An item of a list."""

    item_id: Id
    score: float
    """How likely the user's next event is on it: the natural logarithm of a probability; for lists of popular items, of
    a count."""
    reason: Reason
    prior: float | None = None
    """The same of a user nobody knows, when the list was made, bounded from below by the last item of the default list:
    whoever reads the list later corrects it by what has become of that."""


class TopKList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user's list, always whole. Topic `recommendations`, key: the user id; and Redis key `rec:<user_id>`."""

    state_version: Version
    """Version of the interest state that it was made from; first, so that a store can compare it unparsed."""
    list_id: Id
    user_id: str
    """Empty in the default list `rec-default`."""
    items: list[ListItem]
    """Best first."""
    model_version: str
    """Empty before the first model."""
    arm: str
    event_time_ms: UnixMs
    """Event time of the newest event that the list knows of."""
    produced_at_ms: UnixMs
    """When that event was produced."""
    made_at_ms: UnixMs
    rebuilt: bool = False
    """Whether it replaces a list that was made from the same state: no event led to it, and freshness is not counted
    from `produced_at_ms`."""
    hidden: bytes = b""
    """What the list hides because the user has had it, with `STREAMREC_HIDE_SEEN` alone: the CRC-32 of each item id in
    UTF-8, four bytes each, little-endian, ascending, in base64. Whoever adds items to the list leaves these out."""
