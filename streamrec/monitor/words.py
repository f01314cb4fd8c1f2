"""Human-readable figures and states."""

from __future__ import annotations

from collections.abc import Mapping

from streamrec.domain.event import kind_in, percent_in
from streamrec.domain.feedback import Weights
from streamrec.domain.interest import HALF_LIVES_DAYS, InterestState
from streamrec.domain.summary import category_transitions, session, summarise

SHOWN_INTERESTS = 3


def duration(seconds: float | None) -> str:
    """Format a duration.

    Examples
    --------
    >>> duration(0.0421), duration(7.3), duration(200), duration(7200), duration(200_000), duration(None)
    ('42 ms', '7.3 s', '3 min', '2.0 h', '2.3 days', 'unknown')
    """
    if seconds is None:
        return "unknown"
    for limit, unit, name, digits in (
        (1, 1e-3, "ms", 0),
        (100, 1, "s", 1),
        (5_400, 60, "min", 0),
        (130_000, 3_600, "h", 1),
    ):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}" if seconds else "0 s"
    return f"{seconds / 86_400:.1f} days"


def percent(share: float | None) -> str:
    """Format a share as a percentage.

    Examples
    --------
    >>> percent(0.0149), percent(None)
    ('1.5 %', '-')
    """
    return "-" if share is None else f"{100 * share:.1f} %"


def kind(graded_type: int) -> str:
    """Name the kind of an event, with its grade.

    Examples
    --------
    >>> from streamrec.domain.event import Event, EventType, Source
    >>> kind(EventType.ADD_TO_CART), kind(Event("u", "i", 1, Source(EventType.RATING, 0), 1, percent=80).graded_type)
    ('add to cart', 'rating, 80 %')
    """
    name, grade = kind_in(graded_type).name.lower().replace("_", " "), percent_in(graded_type)
    return f"{name}, {grade} %" if grade else name


def interest(state: InterestState, weights: Weights) -> list[str]:
    """Describe a user's interests in sentences; weights by kind of event."""
    if not state.sequence:
        return ["Nothing is known of this user."]
    summary = summarise(state, weights)
    sentences = [f"{state.events_count} events are known, the latest {len(state.sequence)} one by one."]
    now = _strongest(summary.short_term)
    visit = session(state.sequence)
    sentences.append(f"The latest session has {len(visit)} events" + (f", on {_and(now)}." if now else "."))
    for place, (half_life, when) in enumerate(
        zip(HALF_LIVES_DAYS, ("lately", "this week", "this season"), strict=True)
    ):
        strongest = _strongest({name: weights[place] for name, weights in summary.long_term.items()})
        if strongest:
            sentences.append(f"Likes {when} (half-life {half_life:g} days): {_and(strongest)}.")
    steps = sorted(category_transitions(state.sequence).items(), key=lambda step: -step[1])[:SHOWN_INTERESTS]
    sentences += [f"After {a} often comes {b} ({count} times)." for (a, b), count in steps if a != b]
    return sentences


def _strongest(weights: Mapping[str, float]) -> list[str]:
    """Return the names with the highest weights, without what the user does not like."""
    liked = [name for name, weight in weights.items() if weight > 0]
    return sorted(liked, key=lambda name: -weights[name])[:SHOWN_INTERESTS]


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
