"""The latest events of all users as a log with links, and the compiled loops over it.

An event has a number, counted from the first one ever, and a place in arrays that are used in a circle. A link is a
distance between numbers, 0 for none; one that leads out of the log is followed no further.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.tables.vocabulary import grown

MAX_EVENTS = 262_144
"""Maximum number of events in the log: 8 MiB."""

EVENT = np.dtype(
    [
        ("time_ms", np.int64),
        ("row", np.int32),
        ("before", np.int32),
        ("after", np.int32),
        ("first", np.int32),
        ("older", np.int32),
        ("unused", np.int32),
    ]
)
"""An event: its time and row, 0 for an item whose row was given away, and links.

`before` and `after` lead to the neighbours in the session, `first` to its first event, which identifies it, `older` to
the previous event with the same row. All of it is in one cache line.
"""

_FIRST_CAPACITY = 1_024


class SessionLog(NamedTuple):
    """Events by place, in chronological order; the capacity is a power of two.

    Attributes
    ----------
    begin, end
        Numbers of the first event and after the last one.
    events
        The events, `EVENT`, `(capacity,)`.
    newest
        By row: 1 + number of the latest event, 0 for none, `(rows,)`.
    """

    begin: int
    end: int
    events: np.ndarray
    newest: np.ndarray

    @classmethod
    def at(cls, begin: int, capacity: int = _FIRST_CAPACITY) -> Self:
        """Return an empty log whose first event will have this number."""
        return cls(begin, begin, np.zeros(capacity, EVENT), np.zeros(1, np.int64))

    def copied(self) -> SessionLog:
        """Return a copy that shares no array."""
        return self._replace(events=self.events.copy(), newest=self.newest.copy())

    def extended(self, rows: np.ndarray, times_ms: np.ndarray, before: np.ndarray) -> SessionLog:
        """Append events in place, `(n,)` each, and return the log with them; the oldest ones leave it."""
        log, events = self, min(self.end - self.begin + len(rows), MAX_EVENTS)
        if events > len(log.events):
            capacity = len(log.events)
            while capacity < events:
                capacity *= 2
            known = log.latest()
            empty = SessionLog.at(log.end - len(known), capacity)
            log = _appended(empty, known["row"], known["time_ms"], known["before"])
        return _appended(log, rows, times_ms, before)

    def latest(self) -> np.ndarray:
        """Return all events, oldest first."""
        begin = max(self.begin, self.end - MAX_EVENTS)
        return np.asarray(self.events[np.arange(begin, self.end) % len(self.events)])

    def row(self, number: int) -> int:
        """Return the row of an event in the log."""
        return int(self.events["row"][number % len(self.events)])

    def without(self, rows: np.ndarray) -> SessionLog:
        """Forget rows in place: they will be given to other items."""
        for row in rows.tolist():
            if row < len(self.newest):
                _forget(self, row)
        return self


def _appended(log: SessionLog, rows: np.ndarray, times_ms: np.ndarray, before: np.ndarray) -> SessionLog:
    """Append events for which there is room."""
    if not len(rows):
        return log
    log = log._replace(newest=grown(log.newest, int(rows.max()) + 1))
    # all contiguous, fields of events, too: one signature to compile
    _append(log, *(np.ascontiguousarray(each, np.int64) for each in (rows, times_ms, before)))
    return log._replace(begin=max(log.begin, log.end + len(rows) - MAX_EVENTS), end=log.end + len(rows))


@compiled
def _append(log: SessionLog, rows: np.ndarray, times_ms: np.ndarray, before: np.ndarray) -> None:
    events, capacity = log.events, len(log.events)
    for index in range(len(rows)):
        number, row, back = log.end + index, rows[index], before[index]
        at = number % capacity
        events[at].row, events[at].time_ms = row, times_ms[index]
        events[at].before = events[at].after = events[at].first = events[at].older = 0
        # a session whose beginning left the log begins here
        if 0 < back < min(capacity, number - log.begin + 1):
            previous = (number - back) % capacity
            events[at].before = events[previous].after = back
            events[at].first = events[previous].first + back
        if row > 0:
            older = log.newest[row] - 1
            if older >= 0 and number - older < capacity:
                events[at].older = number - older
            log.newest[row] = number + 1


@compiled
def _forget(log: SessionLog, row: int) -> None:
    events, capacity = log.events, len(log.events)
    number = log.newest[row] - 1
    while number >= log.begin:
        at = number % capacity
        events[at].row = 0
        if events[at].older == 0:
            break
        number -= events[at].older
    log.newest[row] = 0


def warm_up() -> None:
    """Compile the loops, or load them from the cache, in advance."""
    one = np.ones(1, np.int64)
    SessionLog.at(0).extended(one, one, one).without(one)
