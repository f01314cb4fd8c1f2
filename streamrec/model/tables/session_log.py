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
"""Maximum number of events in the log: 7 MiB."""

_FIRST_CAPACITY = 1_024


class SessionLog(NamedTuple):
    """Events by place, in chronological order; the capacity is a power of two.

    Attributes
    ----------
    begin, end
        Numbers of the first event and after the last one.
    rows, times_ms
        Row, 0 for an item whose row was given away, and event time, `(capacity,)`.
    before, after
        Links to the previous and to the next event of the session, `(capacity,)`.
    first
        Link to the first event of the session, which identifies it, `(capacity,)`.
    older
        Link to the previous event with the same row, `(capacity,)`.
    newest
        By row: 1 + number of the latest event, 0 for none, `(rows,)`.
    """

    begin: int
    end: int
    rows: np.ndarray
    times_ms: np.ndarray
    before: np.ndarray
    after: np.ndarray
    first: np.ndarray
    older: np.ndarray
    newest: np.ndarray

    @classmethod
    def at(cls, begin: int, capacity: int = _FIRST_CAPACITY) -> Self:
        """Return an empty log whose first event will have this number."""
        before, after, first, older = (np.zeros(capacity, np.int32) for _ in range(4))
        rows, times_ms = np.zeros(capacity, np.int32), np.zeros(capacity, np.int64)
        return cls(begin, begin, rows, times_ms, before, after, first, older, np.zeros(1, np.int64))

    def copied(self) -> SessionLog:
        """Return a copy that shares no array."""
        return SessionLog(self.begin, self.end, *(array.copy() for array in self[2:]))

    def extended(self, rows: np.ndarray, times_ms: np.ndarray, before: np.ndarray) -> SessionLog:
        """Append events in place, `(n,)` each, and return the log with them; the oldest ones leave it."""
        log, events = self, min(self.end - self.begin + len(rows), MAX_EVENTS)
        if events > len(log.rows):
            capacity = len(log.rows)
            while capacity < events:
                capacity *= 2
            known = log.latest()
            log = _appended(SessionLog.at(log.end - len(known), capacity), *log.events(known))
        return _appended(log, rows, times_ms, before)

    def latest(self) -> np.ndarray:
        """Return the places of all events, oldest first."""
        return np.arange(max(self.begin, self.end - MAX_EVENTS), self.end) % len(self.rows)

    def row(self, number: int) -> int:
        """Return the row of an event in the log."""
        return int(self.rows[number % len(self.rows)])

    def events(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, event times, and links to the previous event of the session."""
        return self.rows[places], self.times_ms[places], self.before[places]

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
    _append(log, rows.astype(np.int64), times_ms, before.astype(np.int64))
    return log._replace(begin=max(log.begin, log.end + len(rows) - MAX_EVENTS), end=log.end + len(rows))


@compiled
def _append(log: SessionLog, rows: np.ndarray, times_ms: np.ndarray, before: np.ndarray) -> None:
    capacity = len(log.rows)
    for index in range(len(rows)):
        number, row, back = log.end + index, rows[index], before[index]
        at = number % capacity
        log.rows[at], log.times_ms[at] = row, times_ms[index]
        log.before[at] = log.after[at] = log.first[at] = log.older[at] = 0
        # a session whose beginning left the log begins here
        if 0 < back < min(capacity, number - log.begin + 1):
            previous = (number - back) % capacity
            log.before[at] = log.after[previous] = back
            log.first[at] = log.first[previous] + back
        if row > 0:
            older = log.newest[row] - 1
            if older >= 0 and number - older < capacity:
                log.older[at] = number - older
            log.newest[row] = number + 1


@compiled
def _forget(log: SessionLog, row: int) -> None:
    capacity = len(log.rows)
    number = log.newest[row] - 1
    while number >= log.begin:
        at = number % capacity
        log.rows[at] = 0
        if log.older[at] == 0:
            break
        number -= log.older[at]
    log.newest[row] = 0


def warm_up() -> None:
    """Compile the loops, or load them from the cache, in advance."""
    one = np.ones(1, np.int64)
    SessionLog.at(0).extended(one, one, one).without(one)
