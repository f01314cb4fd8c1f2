"""Signs of events: whether the user liked the item, and how much an event says about that.

Every kind of event has a weight, negative for what a user does not like. A rating is positive or negative relative to
the user's other ratings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from streamrec.domain.event import EventType, kind_in, percent_in

if TYPE_CHECKING:
    from streamrec.domain.interest import SequenceEvent

Weights = Sequence[float]
"""Weight of each kind of event, by its number."""

DEFAULT_WEIGHTS: Mapping[EventType, float] = {
    EventType.CLICK: 1.0,
    EventType.PURCHASE: 5.0,
    EventType.VIEW: 1.0,
    EventType.ADD_TO_CART: 3.0,
    EventType.FAVOURITE: 3.0,
    EventType.LIKE: 3.0,
    EventType.SHARE: 3.0,
    EventType.COMMENT: 2.0,
    EventType.WATCH: 1.0,
    EventType.RATING: 3.0,
    EventType.DISLIKE: -3.0,
    EventType.RETURN: -3.0,
}
"""A purchase is worth about as much as several clicks."""

WEIGHTS: Weights = tuple(DEFAULT_WEIGHTS[kind] for kind in EventType)

_ALWAYS_POSITIVE = EventType.CLICK, EventType.PURCHASE, EventType.RATING

_UNGRADED = int(EventType.PURCHASE)
"""Last of the kinds that have no grade; a plain number, because comparing it is fast."""

MAX_WEIGHT = 100
"""Largest weight of a kind of event."""

BELOW_MEAN = 15.0
"""Ratings more than this many percentage points below the user's mean are negative: three quarters of a star."""

PRIOR_PERCENT, PRIOR_RATINGS = 60.0, 3
"""The mean of a user with few ratings is drawn towards this, as if there were this many more."""


def read_weights(text: str) -> Weights:
    """Return the weights in a text, with defaults for kinds that it does not name.

    Raises
    ------
    ValueError
        If it names no kind of event, or the weight is not a number between -100 and 100 other than 0, or is negative
        for a click, a purchase or a rating, whose sign depends on its value.

    Examples
    --------
    >>> read_weights("like=2,purchase=10")[:6]
    (1.0, 10.0, 1.0, 3.0, 3.0, 2.0)
    """
    weights = dict(DEFAULT_WEIGHTS)
    for part in text.split(",") if text.strip() else ():
        name, _, value = (each.strip() for each in part.partition("="))
        if name.upper() not in EventType.__members__:
            known = ", ".join(kind.name.lower() for kind in EventType)
            raise ValueError(f"{name!r} is not a kind of event; choose from {known}")
        try:
            weight = float(value)
        except ValueError:
            weight = 0.0
        if not 0 < abs(weight) <= MAX_WEIGHT:
            raise ValueError(f"the weight of {name} must be a number from -{MAX_WEIGHT} to {MAX_WEIGHT} other than 0")
        kind = EventType[name.upper()]
        if weight < 0 and kind in _ALWAYS_POSITIVE:
            raise ValueError(f"the weight of {name} cannot be negative")
        weights[kind] = weight
    return tuple(weights[kind] for kind in EventType)


def weight_of(graded_type: int, weights: Weights) -> float:
    """Return the signed weight of an event by itself, of a rating relative to the middle of its scale.

    Examples
    --------
    >>> weight_of(EventType.PURCHASE, WEIGHTS)
    5.0
    """
    if graded_type <= _UNGRADED:
        return weights[graded_type]
    kind, percent = kind_in(graded_type), percent_in(graded_type)
    if kind is EventType.RATING:
        return weights[kind] * (percent - 50) / 50
    return weights[kind] * percent / 100 if kind is EventType.WATCH else weights[kind]


def signed(sequence: Sequence[SequenceEvent], weights: Weights) -> Sequence[SequenceEvent]:
    """Return a sequence with signed kinds as event types: negative for an item that the user did not like.

    Parameters
    ----------
    sequence
        Events of a state, with graded types.
    weights
        Weight of each kind.

    Examples
    --------
    >>> from streamrec.domain.event import Event, Source
    >>> from streamrec.domain.interest import SequenceEvent
    >>> kinds = [(EventType.CLICK, 0), (EventType.DISLIKE, 0), (EventType.RATING, 80), (EventType.RATING, 20)]
    >>> events = [Event("u", "i", 1, Source(kind, 0), 1, percent=percent) for kind, percent in kinds]
    >>> sequence = [SequenceEvent(1, event.graded_type, 0, 1, "i", "") for event in events]
    >>> [event.event_type for event in signed(sequence, WEIGHTS)]
    [0, -10, 9, -9]
    """
    if max([event.event_type for event in sequence], default=0) <= _UNGRADED:  # a list: faster than a generator
        return sequence  # the common case
    limit = _mean_percent(event.event_type for event in sequence) - BELOW_MEAN
    return [
        event._replace(event_type=_signed_kind(event.event_type, weights, limit))
        if event.event_type > _UNGRADED
        else event
        for event in sequence
    ]


def is_interest(signed_kind: int) -> bool:
    """Return whether an event shows interest in items of this sort.

    A low rating does: the user chose the item, and others who choose it are alike. A dislike does not.

    Examples
    --------
    >>> is_interest(EventType.CLICK), is_interest(-EventType.RATING), is_interest(-EventType.DISLIKE)
    (True, True, False)
    """
    return signed_kind >= 0 or signed_kind == -EventType.RATING


def _signed_kind(graded_type: int, weights: Weights, limit: float) -> int:
    kind = kind_in(graded_type)
    is_negative = percent_in(graded_type) < limit if kind is EventType.RATING else weights[kind] < 0
    return -kind if is_negative else int(kind)


def _mean_percent(graded_types: Iterable[int]) -> float:
    """Return the mean rating of a user."""
    ratings = [percent_in(each) for each in graded_types if kind_in(each) is EventType.RATING]
    return (sum(ratings) + PRIOR_PERCENT * PRIOR_RATINGS) / (len(ratings) + PRIOR_RATINGS)
