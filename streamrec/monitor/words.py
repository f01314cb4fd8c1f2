"""Human-readable figures and states."""

from __future__ import annotations

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


def interest(state: InterestState) -> list[str]:
    """Describe a user's interests in sentences."""
    if not state.sequence:
        return ["Nothing is known of this user."]
    summary = summarise(state)
    sentences = [f"{state.events_count} events are known, the latest {len(state.sequence)} one by one."]
    now = sorted(summary.short_term, key=lambda name: -summary.short_term[name])[:SHOWN_INTERESTS]
    visit = session(state.sequence)
    sentences.append(f"The latest session has {len(visit)} events" + (f", on {_and(now)}." if now else "."))
    for place, (half_life, when) in enumerate(
        zip(HALF_LIVES_DAYS, ("lately", "this week", "this season"), strict=True)
    ):
        strongest = sorted(summary.long_term, key=lambda name: -summary.long_term[name][place])[:SHOWN_INTERESTS]
        if strongest:
            sentences.append(f"Likes {when} (half-life {half_life:g} days): {_and(strongest)}.")
    steps = sorted(category_transitions(state.sequence).items(), key=lambda step: -step[1])[:SHOWN_INTERESTS]
    sentences += [f"After {a} often comes {b} ({count} times)." for (a, b), count in steps if a != b]
    return sentences


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
