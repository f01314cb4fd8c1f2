"""Domain events: clicks, purchases and other feedback."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

_GRADE_SHIFT = 6
"""Bits of a kind in a number that also holds a grade."""


NO_CONTEXT: Mapping[str, object] = MappingProxyType({})


class EventType(IntEnum):
    """Kinds of events. The numbers are stored; of two events at one time the one with the lower number comes first.

    Clicks and purchases have topics of their own; all other kinds share the topic `feedback`.
    """

    CLICK = 0
    PURCHASE = 1
    VIEW = 2
    ADD_TO_CART = 3
    FAVOURITE = 4
    LIKE = 5
    SHARE = 6
    COMMENT = 7
    WATCH = 8
    """Also listening."""
    RATING = 9
    DISLIKE = 10
    RETURN = 11


class Source(NamedTuple):
    """The events of one kind in a partition.

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
    """One event of a user with an item, with its position in the log.

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
    percent
        A rating, or the watched part, in percent of its scale; 0 for other kinds.
    context
        Further attributes: device, referrer, country and the like.
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
    percent: int = 0
    context: Mapping[str, object] = NO_CONTEXT

    @property
    def graded_type(self) -> int:
        """The kind of event, with its grade: see :func:`kind_in` and :func:`percent_in`.

        Examples
        --------
        >>> rated = Event("u", "i", 1, Source(EventType.RATING, 0), offset=1, percent=80)
        >>> kind_in(rated.graded_type).name, percent_in(rated.graded_type)
        ('RATING', 80)
        """
        return self.source.event_type | self.percent << _GRADE_SHIFT


def topic_number(event_type: int) -> int:
    """Return 0 for a click, 1 for a purchase and 2 for all other kinds, graded or signed: each number is a topic."""
    return min(abs(event_type), _FEEDBACK)


def kind_in(graded_type: int) -> EventType:
    """Return the kind of an event."""
    return _KINDS[graded_type & (1 << _GRADE_SHIFT) - 1]


def percent_in(graded_type: int) -> int:
    """Return the grade of an event in percent, 0 without one."""
    return graded_type >> _GRADE_SHIFT


_KINDS = tuple(EventType)
_FEEDBACK = 2
