"""Domain events: clicks and purchases."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class EventType(IntEnum):
    """Kinds of events, in the order that breaks ties in event time; each has its own topic."""

    CLICK = 0
    PURCHASE = 1


class Source(NamedTuple):
    """A partition with events.

    Parameters
    ----------
    event_type
        The kind of event, which determines the topic.
    partition
        The partition of that topic.
    """

    event_type: EventType
    partition: int


class Event(NamedTuple):
    """One click or purchase, with its position in the log.

    Parameters
    ----------
    user_id, item_id
        The user and the item.
    event_time_ms
        Unix milliseconds; determines decay, sessions and cohorts.
    source, offset
        Position in the log.
    id_hash
        64-bit hash of the producer's event id; `None` if the position is the only id.
    category
        The item's category according to the producer, or an empty string.
    list_id
        The clicked list, if the producer knows it.
    content_hash
        16-bit digest of the other fields: an event with the same id and another digest is a different event.
    """

    user_id: str
    item_id: str
    event_time_ms: int
    source: Source
    offset: int
    id_hash: int | None = None
    category: str = ""
    list_id: str = ""
    content_hash: int = 0
