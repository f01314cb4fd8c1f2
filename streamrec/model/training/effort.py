"""Effort of a step for each waiting event: with a backlog less, so that a step hardly takes longer."""

from __future__ import annotations

STEP_TESTS, TESTED_SHARES = 64, (0.05, 1.0)
"""Number of waiting events at the start of a step on which the serving version is tested and the blend trained, and the
bounds of their share. Ranking for one event takes about a millisecond."""

STEP_VISITS, VISITS = 128, (0.25, 2.0)
"""Total passes over sequences with new events, distributed over the events waiting at the start of a step, and the
bounds per event. Below one pass, some events are only counted now and trained on when replayed. So the duration of a
step hardly depends on the backlog, and what it learned serves soon after."""


def tested_share(waiting: int) -> float:
    """Return the share of new events that the serving version is tested on."""
    return _per_event(STEP_TESTS, waiting, TESTED_SHARES)


def visits(waiting: int) -> float:
    """Return the number of passes over each sequence with new events.

    Examples
    --------
    >>> [visits(waiting) for waiting in (1, 64, 128, 10_000)]
    [2.0, 2.0, 1.0, 0.25]
    """
    return _per_event(STEP_VISITS, waiting, VISITS)


def _per_event(together: int, waiting: int, bounds: tuple[float, float]) -> float:
    least, most = bounds
    return min(most, max(least, together / max(waiting, 1)))
