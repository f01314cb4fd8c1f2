"""Search for the sessions that are similar to users' latest events, and for their items.

Sessions are similar if they share items with the latest ones of a user, more so if these are recent, rare, and shared
lately; their items count by the distance from the latest shared one, more after it than before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.retriever import OWN_ITEMS, Users
from streamrec.model.tables.neighbour_lists import DISTANCE_DECAY, OTHER_SESSION_WEIGHT, SESSION_GAP_MS
from streamrec.model.tables.session_log import SessionLog

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

_FADING_PER_MS = np.log(2.0) / HALF_LIFE_MS

_SLOTS = 4_096
"""Slots of the hash tables of one user's sessions and items, a power of two: at least twice as many as can be found."""


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
        As in :class:`~streamrec.model.retrievers.weighed.Weighed`, `(n,)`.
    """

    slots: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    leads: np.ndarray


@compiled
def items_of_similar(log: SessionLog, users: Users, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the fields of :class:`~streamrec.model.retrievers.weighed.Weighed`."""
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
