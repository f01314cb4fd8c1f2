"""What users do: clicks and purchases, as the domain sees them."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class EventType(IntEnum):
    """The kinds of event, in the order that breaks ties of event time; each has a topic of its own."""

    CLICK = 0
    PURCHASE = 1


class Source(NamedTuple):
    """A partition that events come from.

    Parameters
    ----------
    event_type
        The kind of event, which names the topic.
    partition
        The partition of that topic.
    """

    event_type: EventType
    partition: int


class Event(NamedTuple):
    """One click or purchase, with the place in the log that it was read from.

    Parameters
    ----------
    user_id, item_id
        Who, and what.
    event_time_ms
        When it happened, Unix milliseconds; drives decay, sessions and cohorts.
    source, offset
        Where it stands in the log.
    id_hash
        64-bit hash of the producer's event id; `None` where the position is the only id.
    category
        The item's category as the producer knew it, or an empty string.
    list_id
        The list that it followed, where the producer knew.
    content_hash
        16 bits of what else the producer said: an event with the same id and others is another event.
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
