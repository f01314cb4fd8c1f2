"""The channel of session neighbours: what others did next in sessions like this one.

STAN (Garg et al. 2019, "Sequence and Time Aware Neighborhood for Session-based Recommendations", arXiv 1905.07965) and
VSTAN (Ludewig et al. 2021, arXiv 1910.12781), on a stream. Here sessions are logged and published;
:mod:`streamrec.model.retrievers.similar_sessions` searches them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import numpy as np

from streamrec.model.retrievers.retriever import Found, Items, Lesson, Teacher, Users
from streamrec.model.retrievers.similar_sessions import items_of_similar
from streamrec.model.retrievers.weighed import Weighed, WeighedRetriever
from streamrec.model.tables.neighbour_lists import SESSION_GAP_MS
from streamrec.model.tables.session_log import MAX_EVENTS, SessionLog
from streamrec.model.tensors import Arrays

SESSION_EVENTS = 64
"""Maximum number of events in a session: those of a robot do not end."""

MAX_CANDIDATES = 48
"""Maximum number of candidates per user."""

_LOGGED = "row", "time_ms", "before"
"""Fields of events from which the others follow."""


class _Last(NamedTuple):
    """The latest event of a user in the log, and how many events of its session there are so far."""

    number: int
    events: int
    time_ms: int


class SessionTeacher:
    """Logs the sessions of all users."""

    def __init__(self) -> None:
        self._log = SessionLog.at(0)
        self._users = np.zeros(len(self._log.events), np.int64)
        """User of each event, by place."""
        self._last: dict[int, _Last] = {}
        self._published, self._forgotten = 0, set[int]()
        """End of the log in the last version, and rows forgotten since."""

    def learn(self, lesson: Lesson) -> None:
        """Append the new events, but not what a user repeats at once."""
        of = np.searchsorted(lesson.ends, lesson.new, side="right")
        rows, times_ms, users = lesson.rows[lesson.new], lesson.times_ms[lesson.new], lesson.users[of]
        begin, appended, before = self._log.end, list[int](), list[int]()
        for index, (row, time_ms, user) in enumerate(
            zip(rows.tolist(), times_ms.tolist(), users.tolist(), strict=True)
        ):
            number, back, events = begin + len(appended), 0, 1
            last = self._last.get(user)
            if last is not None and self._continues(last, number, time_ms):
                back, events = number - last.number, last.events + 1
                is_old = last.number < begin
                if row == (self._log.row(last.number) if is_old else rows[appended[last.number - begin]]):
                    continue
            if row:
                appended.append(index)
                before.append(back)
                self._last[user] = _Last(number, events, time_ms)
        self._append(rows[appended], times_ms[appended], np.array(before, np.int64), users[appended])

    def forget(self, row: int) -> None:
        """Forget the events on a row."""
        self._log = self._log.without(np.array([row]))
        self._forgotten.add(row)

    def changes(self, rows: int, *, everything: bool) -> Arrays:  # noqa: ARG002  # the log does not grow with the rows
        """Return the events since the last version, and the rows forgotten since; all rows as they are now."""
        log, logged = self._log, self._log.latest()
        if not everything:
            logged = logged[len(logged) - min(len(logged), log.end - self._published) :]
        forgotten, self._forgotten, self._published = sorted(self._forgotten), set(), log.end
        return {
            "session.begin": np.array([log.end - len(logged)]),
            "session.forgotten": np.array([] if everything else forgotten, np.int64),
            **{f"session.{field}": logged[field].copy() for field in _LOGGED},
        }

    def state(self) -> Arrays:
        """Return the log."""
        logged = self._log.latest()
        begin = self._log.end - len(logged)
        users = self._users[np.arange(begin, self._log.end) % len(self._users)]
        return {"begin": np.array([begin]), "users": users, **{field: logged[field].copy() for field in _LOGGED}}

    def load(self, state: Arrays) -> None:
        """Restore the log."""
        if not state:
            return
        number = int(state["begin"][0])
        self._log = SessionLog.at(number)
        rows, times_ms, before = (state[field] for field in _LOGGED)
        self._append(rows, times_ms, before, state["users"])
        events: list[int] = []
        for time_ms, back, user in zip(*(state[each].tolist() for each in ("time_ms", "before", "users")), strict=True):
            events.append(events[-back] + 1 if 0 < back <= len(events) else 1)
            self._last[user] = _Last(number, events[-1], time_ms)
            number += 1

    def _continues(self, last: _Last, number: int, time_ms: int) -> bool:
        is_kept = number - last.number < MAX_EVENTS
        return is_kept and last.events < SESSION_EVENTS and abs(time_ms - last.time_ms) <= SESSION_GAP_MS

    def _append(self, rows: np.ndarray, times_ms: np.ndarray, before: np.ndarray, users: np.ndarray) -> None:
        earlier = self._log
        self._log = earlier.extended(rows, times_ms, before)
        if len(self._log.events) > len(self._users):
            numbers = np.arange(earlier.begin, earlier.end)
            larger = np.zeros(len(self._log.events), np.int64)
            larger[numbers % len(larger)] = self._users[numbers % len(self._users)]
            self._users = larger
        self._users[np.arange(self._log.end - len(users), self._log.end) % len(self._users)] = users
        if len(self._last) > 2 * MAX_EVENTS:
            begin = self._log.begin
            self._last = {user: last for user, last in self._last.items() if last.number >= begin}


class SessionRetriever(WeighedRetriever):
    """The items of sessions that are similar to the user's latest events."""

    name = "session"
    strength = 0.9
    features = "session", "is_of_session"
    prior: ClassVar[Mapping[str, float]] = {"session": 0.5, "is_of_session": 0.25}

    def __init__(self) -> None:
        self.log = SessionLog.at(0)

    @classmethod
    def teacher(cls, _seed: int, /) -> Teacher:
        """Return a log of sessions."""
        return SessionTeacher()

    def follow(self, earlier: Self, items: Items, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        """Take over the log of the earlier version, and append what came since."""
        begin, forgotten = int(changes["session.begin"][0]), changes["session.forgotten"]
        rows, times_ms, before = (changes[f"session.{field}"].astype(np.int64) for field in _LOGGED)
        if not len(rows) == len(times_ms) == len(before):
            raise ValueError("sessions whose events are not complete")
        if begin < 0 or min(rows.min(initial=0), forgotten.min(initial=0)) < 0 or rows.max(initial=0) >= items.size:
            raise ValueError("sessions with rows that the version does not have")
        log = earlier.log if in_place else earlier.log.copied()
        if begin != log.end:
            log = SessionLog.at(begin)
        self.log = log.without(forgotten).extended(rows, times_ms, before)

    def find(self, items: Items, users: Users) -> Found:
        """Return the strongest items of similar sessions."""
        return Weighed(*items_of_similar(self.log, users, items.size)).strongest(MAX_CANDIDATES)
