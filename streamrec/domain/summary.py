"""Summary of an interest state: session, short-term and long-term interest, category transitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamrec.domain.feedback import WEIGHTS, Weights, weight_of
from streamrec.domain.interest import (
    DAY_MS,
    HALF_LIVES_DAYS,
    Beyond,
    InterestState,
    SequenceEvent,
    category_bucket,
    decayed_weights,
    item_bucket,
)

SESSION_GAP_MS = 30 * 60 * 1000
"""A pause of half an hour ends a session, as in web analytics."""


def session(sequence: list[SequenceEvent]) -> list[SequenceEvent]:
    """Return the events of the latest session, oldest first.

    Examples
    --------
    >>> a = SequenceEvent(0, 0, 0, 1, "a", "")
    >>> b = SequenceEvent(SESSION_GAP_MS + 1, 0, 0, 2, "b", "")
    >>> [event.item_id for event in session([a, b])]
    ['b']
    """
    start = len(sequence)
    while start > 0:
        start -= 1
        if start > 0 and sequence[start].event_time_ms - sequence[start - 1].event_time_ms > SESSION_GAP_MS:
            break
    return sequence[start:]


def category_transitions(sequence: Iterable[SequenceEvent]) -> dict[tuple[str, str], int]:
    """Count the transitions between categories within sessions.

    Returns
    -------
    dict
        `(from, to)` → count; bounded by the length of the sequence. Events without a category are skipped.
    """
    counts: dict[tuple[str, str], int] = {}
    previous: SequenceEvent | None = None
    for event in sequence:
        if not event.category:
            continue
        if previous and event.event_time_ms - previous.event_time_ms <= SESSION_GAP_MS:
            step = (previous.category, event.category)
            counts[step] = counts.get(step, 0) + 1
        previous = event
    return counts


@dataclass(frozen=True, slots=True)
class Interest:
    """A user's interest in categories and items at the time of the newest event.

    Parameters
    ----------
    short_term
        Weight of each category in the latest session.
    long_term, long_term_items
        Decayed weight of each category and item in the sequence (including its share of older events), one value per
        half-life.
    """

    short_term: dict[str, float] = field(default_factory=dict)
    long_term: dict[str, list[float]] = field(default_factory=dict)
    long_term_items: dict[str, list[float]] = field(default_factory=dict)


def summarise(state: InterestState, weights: Weights = WEIGHTS) -> Interest:
    """Return the interest in categories and items, short-term and long-term; bounded by the length of the sequence.

    Parameters
    ----------
    weights
        Weight of each kind of event; what the user did not like lowers the interest.
    """
    sequence = state.sequence
    interest = Interest()
    short_term, items, categories = interest.short_term, interest.long_term_items, interest.long_term
    for event in session(sequence):
        if event.category:
            weight = short_term.get(event.category, 0.0) + weight_of(event.event_type, weights)
            short_term[event.category] = weight
    now_ms = sequence[-1].event_time_ms if sequence else 0
    for event in sequence:
        decayed = decayed_weights(event, now_ms, weights)
        _add(items, event.item_id, decayed)
        if event.category:
            _add(categories, event.category, decayed)
    if state.beyond:
        beyond = _beyond_at(state.beyond, now_ms)
        for sums, bucket_of in ((items, item_bucket), (categories, category_bucket)):
            for name in sums:
                if (share := beyond.get(bucket_of(name))) is not None:
                    _add(sums, name, share)
    return interest


def _add(sums: dict[str, list[float]], name: str, weights: list[float]) -> None:
    before = sums.get(name)
    if before is None:
        sums[name] = weights
        return
    (day, week, month), (more_day, more_week, more_month) = before, weights  # unrolled, because it is twice as fast
    sums[name] = [day + more_day, week + more_week, month + more_month]


def _beyond_at(beyond: Beyond, now_ms: int) -> dict[int, list[float]]:
    age_days = (now_ms - beyond.reference_ms) / DAY_MS
    factors = [0.5 ** (age_days / half_life) for half_life in HALF_LIVES_DAYS]
    return {
        bucket: [value * factor for value, factor in zip(sums, factors, strict=True)]
        for bucket, sums in beyond.sums.items()
    }
