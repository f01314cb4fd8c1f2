"""Pacing of a recording: as fast as possible, at a steady rate, or at the original pace, scaled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

MAX_CHUNK = 500
"""Maximum number of events per chunk: enough to amortise a round trip to the broker."""

T = TypeVar("T")

DueS = Callable[[int, int], float]
"""Seconds after the start at which an event is due, from its number and its event time in milliseconds."""


def as_fast_as_possible() -> DueS:
    """Every event is due at once."""
    return lambda _number, _event_time_ms: 0.0


def at_rate(events_per_s: float) -> DueS:
    """Events are due at a steady rate.

    Examples
    --------
    >>> at_rate(200.0)(50, 0)
    0.25
    """
    return lambda number, _event_time_ms: number / events_per_s


def at_speedup(factor: float) -> DueS:
    """Events keep their original intervals, divided by a factor; the first one is due immediately.

    Examples
    --------
    >>> due_s = at_speedup(60.0)
    >>> due_s(0, 1_000_000), due_s(1, 1_120_000)
    (0.0, 2.0)
    """
    first_ms: list[int] = []

    def due_s(_number: int, event_time_ms: int) -> float:
        if not first_ms:
            first_ms.append(event_time_ms)
        return (event_time_ms - first_ms[0]) / 1_000 / factor

    return due_s


def in_time(
    events: Iterable[T],
    due_s: DueS,
    event_time_ms: Callable[[T], int | None],
    *,
    now_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[T]]:
    """Yield chunks of due events, at most `MAX_CHUNK` each.

    Parameters
    ----------
    events
        Events in the order of the recording.
    due_s
        When an event is due.
    event_time_ms
        The event time of an event; one without is due with the previous one.
    now_s, sleep
        The clock.
    """
    start_s = now_s()

    def wait_s(number: int, event: T) -> float:
        time_ms = event_time_ms(event)
        return 0.0 if time_ms is None else start_s + due_s(number, time_ms) - now_s()

    chunk: list[T] = []
    for number, event in enumerate(events):
        if chunk and (len(chunk) == MAX_CHUNK or wait_s(number, event) > 0):
            yield chunk
            chunk = []
        left_s = wait_s(number, event)
        if left_s > 0:
            sleep(left_s)
        chunk.append(event)
    if chunk:
        yield chunk
