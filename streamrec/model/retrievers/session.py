"""The channel of session neighbours: what others did next in sessions like this one.

STAN (Garg et al. 2019, "Sequence and Time Aware Neighborhood for Session-based Recommendations", arXiv 1905.07965) and
VSTAN (Ludewig et al. 2021, arXiv 1910.12781), on a stream: sessions are similar if they share items with the latest
ones of a user, more so if these are recent, rare, and shared lately; their items count by the distance from the latest
shared one, more after it than before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.retriever import OWN_ITEMS, Found, Items, Lesson, Teacher, Users
from streamrec.model.retrievers.weighed import Weighed, WeighedRetriever
from streamrec.model.tables.neighbour_lists import DISTANCE_DECAY, OTHER_SESSION_WEIGHT, SESSION_GAP_MS
from streamrec.model.tables.session_log import MAX_EVENTS, SessionLog
from streamrec.model.tensors import Arrays

SESSION_EVENTS = 64
"""Maximum number of events in a session: those of a robot do not end."""

POSTINGS, FEWEST_POSTINGS = 72, 8
"""Number of the latest events on the user's latest item whose sessions are compared, fewer the less an item counts, but
at least the second number: each is a random access to memory."""

SESSIONS = 100
"""Number of the most similar sessions whose items count."""

REACH = 8
"""Maximum distance of an item from the latest shared one, in events of the session."""

REACH_DECAY, BACKWARD_WEIGHT = 0.8, 0.5
"""Factors for each step from the latest shared item, and for items before it."""

HALF_LIFE_MS = 7 * 86_400_000.0
"""Half-life of the similarity of a session."""

MAX_CANDIDATES = 64
"""Maximum number of candidates per user."""

_FADING_PER_MS = np.log(2.0) / HALF_LIFE_MS

_LOGGED = "row", "time_ms", "before"
"""Fields of events from which the others follow."""

_SLOTS = 4_096
"""Slots of the hash tables of one user's sessions and items, a power of two: at least twice as many as can be found."""


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
        return Weighed(*_gather(self.log, users, items.size)).strongest(MAX_CANDIDATES)


class _Sessions(NamedTuple):
    """The sessions similar to a user's latest events, in the order in which they are found.

    Attributes
    ----------
    slots
        Hash table from the number of a session's first event to 1 + its index, `(_SLOTS,)`.
    ids, shared, leads
        That number, the number of the latest shared event, and its row, `(n,)`.
    weights
        Similarities, `(n,)`.
    """

    slots: np.ndarray
    ids: np.ndarray
    shared: np.ndarray
    leads: np.ndarray
    weights: np.ndarray


class _Rows(NamedTuple):
    """The items of similar sessions, in the order in which they are found.

    Attributes
    ----------
    slots
        Hash table from the row to 1 + its index, `(_SLOTS,)`.
    rows, weights, leads
        As in :class:`Weighed`, `(n,)`.
    """

    slots: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    leads: np.ndarray


@compiled
def _gather(log: SessionLog, users: Users, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the fields of :class:`Weighed`."""
    of_sessions, of_rows = OWN_ITEMS * POSTINGS, 2 * REACH * SESSIONS
    sessions = _Sessions(
        np.zeros(_SLOTS, np.int32),
        np.zeros(of_sessions, np.int64),
        np.zeros(of_sessions, np.int64),
        np.zeros(of_sessions, np.int64),
        np.zeros(of_sessions),
    )
    found = _Rows(
        np.zeros(_SLOTS, np.int32), np.zeros(of_rows, np.int64), np.zeros(of_rows), np.zeros(of_rows, np.int64)
    )
    room = len(users.ends) * of_rows
    ends = np.zeros(len(users.ends), np.int64)
    rows, weights, leads = np.empty(room, np.int64), np.empty(room), np.empty(room, np.int64)
    begin, end = 0, 0
    for user in range(len(users.ends)):
        own = slice(begin, users.ends[user])
        count = _similar(log, users.rows[own], users.times_ms[own], users.now_ms[user], sessions)
        count = _items(log, sessions, count, size, found)
        rows[end : end + count], leads[end : end + count] = found.rows[:count], found.leads[:count]
        weights[end : end + count] = found.weights[:count] / max(found.weights[:count].sum(), 1e-12)
        begin, end = users.ends[user], end + count
        ends[user] = end
    return ends, rows[:end], weights[:end], leads[:end]


@compiled
def _similar(log: SessionLog, rows: np.ndarray, times_ms: np.ndarray, now_ms: int, sessions: _Sessions) -> int:
    """Find the sessions that share the latest items, and return their number."""
    sessions.slots[:] = 0
    done, postings = np.zeros(OWN_ITEMS, np.int64), np.zeros(POSTINGS, np.int64)
    logged, capacity = log.events, len(log.events)
    count, items, weight, later_ms = 0, 0, 1.0, now_ms
    for event in range(len(rows) - 1, -1, -1):
        row, time_ms = rows[event], times_ms[event]
        if later_ms - time_ms > SESSION_GAP_MS:
            weight *= OTHER_SESSION_WEIGHT
        later_ms = time_ms
        if 0 < row < len(log.newest) and not (done[:items] == row).any():
            most = max(FEWEST_POSTINGS, int(POSTINGS * weight))
            posted, number = 0, log.newest[row] - 1
            while number >= log.begin and posted < most:
                at = number % capacity
                if logged[at].time_ms != time_ms:  # not the user's own event
                    postings[posted] = number
                    posted += 1
                if logged[at].older == 0:
                    break
                number -= logged[at].older
            oldest = postings[most - 1] if posted == most else log.begin
            rarity = np.log1p((log.end - oldest) / max(posted, 1))
            for index in range(posted):
                at = postings[index] % capacity
                age_ms = max(now_ms - logged[at].time_ms, 0)
                similarity = weight * rarity * np.exp(-age_ms * _FADING_PER_MS)
                count = _add_session(sessions, count, postings[index], logged[at].first, row, similarity)
            done[items] = row
            items += 1
            if items == OWN_ITEMS:
                break
        weight *= DISTANCE_DECAY
    return count


@compiled
def _add_session(sessions: _Sessions, count: int, number: int, first: int, row: int, weight: float) -> int:
    """Add to the similarity of the session of an event, and return the number of sessions."""
    session = number - first
    slot = session % _SLOTS
    while sessions.slots[slot] > 0 and sessions.ids[sessions.slots[slot] - 1] != session:
        slot = (slot + 1) % _SLOTS
    if sessions.slots[slot] == 0:
        sessions.ids[count], sessions.shared[count], sessions.leads[count] = session, number, row
        sessions.weights[count] = 0.0
        count += 1
        sessions.slots[slot] = count
    sessions.weights[sessions.slots[slot] - 1] += weight
    return count


@compiled
def _items(log: SessionLog, sessions: _Sessions, count: int, size: int, found: _Rows) -> int:
    """Weigh the items of the most similar sessions, and return their number."""
    found.slots[:] = 0
    least, left = -np.inf, 0
    weights = sessions.weights[:count]
    if count > SESSIONS:
        least = np.partition(weights, count - SESSIONS)[count - SESSIONS]
        left = SESSIONS - (weights > least).sum()
    logged, capacity, end = log.events, len(log.events), 0
    for index in range(count):
        if weights[index] == least and left > 0:
            left -= 1
        elif weights[index] <= least:
            continue
        number, weight = sessions.shared[index], weights[index]
        for _ in range(REACH):
            step = logged[number % capacity].after
            if step == 0:
                break
            number += step
            end = _add_row(found, end, logged[number % capacity].row, size, weight, sessions.leads[index])
            weight *= REACH_DECAY
        number, weight = sessions.shared[index], weights[index] * BACKWARD_WEIGHT
        for _ in range(REACH):
            step = logged[number % capacity].before
            if step == 0 or number - step < log.begin:
                break
            number -= step
            end = _add_row(found, end, logged[number % capacity].row, size, weight, sessions.leads[index])
            weight *= REACH_DECAY
    return end


@compiled
def _add_row(found: _Rows, end: int, row: int, size: int, weight: float, lead: int) -> int:
    """Add to the weight of an item, and return the number of items."""
    if row == 0 or row >= size:
        return end
    slot = row * 2_654_435_761 % _SLOTS
    while found.slots[slot] > 0 and found.rows[found.slots[slot] - 1] != row:
        slot = (slot + 1) % _SLOTS
    if found.slots[slot] == 0:
        found.rows[end], found.weights[end], found.leads[end] = row, 0.0, lead
        end += 1
        found.slots[slot] = end
    found.weights[found.slots[slot] - 1] += weight
    return end
