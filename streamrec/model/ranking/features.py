"""The features of candidates, compiled; named in `blend.py`.

Each function fills columns for the candidates of one user, from `start` to `end`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled, dot
from streamrec.model.retrievers.shelves import HALF_LIVES
from streamrec.model.tables.neighbour_lists import DISTANCE_DECAY, SESSION_GAP_MS

COUNT_FLOOR = 0.02
"""Smaller counts are treated as this: no evidence rather than strong negative evidence."""

LOGS = np.r_[2:13, 26:29]
"""Logarithmic features: the kernel writes their arguments, and all logarithms are computed at once."""

LOG_SCALE = np.array([0.3] * 6 + [0.15, 0.15, 0.3, 0.2, 0.2] + [0.3] * 3, np.float32)
LOG_SHIFT = np.array([0.0] * 9 + [1.4, 1.4] + [1.2] * 3, np.float32)
_NO_NEIGHBOUR = np.float32(np.exp(-7.0))
"""Weight of a neighbour whose logarithm is zero after scale and shift."""

_NO_SHARE = np.float32(np.exp(-4.0))
"""Likewise for shares, as a lower bound: of interest in a category, and of its popularity."""

_TINY = np.float32(1e-6)

INTEREST_DECAY = 0.95
"""An event weighs so much less than the one after it where interest in categories is told: some twenty of them count,
of several visits, while `DISTANCE_DECAY` tells what the session is about."""


class Tables(NamedTuple):
    """Item data for features, by row; see :class:`~streamrec.model.ranking.serving.ServingModel`."""

    vectors: np.ndarray
    counts: np.ndarray
    first_ms: np.ndarray
    last_ms: np.ndarray
    events: np.ndarray
    category: np.ndarray
    neighbours: np.ndarray
    shares: np.ndarray
    shelf_keys: np.ndarray
    shelf_places: np.ndarray
    shelf_of: np.ndarray
    shelf_rows: np.ndarray
    shelf_totals: np.ndarray
    may_be: np.ndarray
    """Whether a row may be in a list, `(W,)`, W a multiple of 8."""


class Users(NamedTuple):
    """The users to retrieve candidates for."""

    ends: np.ndarray
    """End of each user's events, `(B,)`."""
    rows: np.ndarray
    times_ms: np.ndarray
    categories: np.ndarray
    now_ms: np.ndarray
    decays: np.ndarray
    """Decay factor of counts, by half-life, `(B, H)`."""
    hidden: np.ndarray
    """`(B, D)`"""
    nearest: np.ndarray
    """Rows nearest to the user's vector, `(B, N)`; -1 for padding and for unknown users."""
    left_out: np.ndarray
    """Excluded rows, concatenated by user."""
    left_out_ends: np.ndarray
    """End of each user's excluded rows, `(B,)`."""


class Found(NamedTuple):
    """Output buffers with sufficient capacity."""

    rows: np.ndarray
    leads: np.ndarray
    features: np.ndarray
    logs: np.ndarray
    """Arguments of the logarithms, `(M, 14)`."""


class Interests(NamedTuple):
    """The categories of one user's sequence, latest first; capacity for all events."""

    codes: np.ndarray
    now: np.ndarray
    """Share of the sequence, weighted towards the latest events."""
    lasting: np.ndarray
    """The same for the whole sequence."""


class Near(NamedTuple):
    """Distinct neighbours of one user's latest items."""

    at: np.ndarray
    """By row: 1 + its index in the others, 0 if it is not a neighbour; cleared between users."""
    rows: np.ndarray
    weights: np.ndarray
    of_last: np.ndarray
    """The part of the weight from the last item."""
    best: np.ndarray
    leads: np.ndarray
    """The item whose strongest neighbour it is, and that weight."""


@compiled
def add_popularity(tables: Tables, users: Users, user: int, found: Found, start: int, end: int) -> None:
    """Add popularity and age of each candidate, as arguments of logarithms."""
    now_ms = users.now_ms[user]
    for index in range(start, end):
        row = found.rows[index]
        for half_life in range(tables.counts.shape[1]):
            found.logs[index, half_life] = tables.counts[row, half_life] * users.decays[user, half_life] + np.float32(
                COUNT_FLOOR
            )
        found.logs[index, 6] = 1.0 + max(now_ms - tables.first_ms[row], 0) / 60_000.0
        found.logs[index, 7] = 1.0 + max(now_ms - tables.last_ms[row], 0) / 60_000.0
        found.logs[index, 8] = 1.0 + tables.events[row]
        found.logs[index, 9] = found.logs[index, 10] = _NO_NEIGHBOUR


@compiled
def add_cosines(tables: Tables, users: Users, user: int, found: Found, start: int, end: int) -> None:
    """Add the similarity of each candidate to the user, unless the user is unknown."""
    if end == start or users.nearest.shape[1] == 0 or users.nearest[user, 0] < 0:
        return
    best = np.float32(-np.inf)
    for index in range(start, end):
        cosine = dot(tables.vectors[found.rows[index]], users.hidden[user])
        found.features[index, 0] = cosine
        best = max(best, cosine)
    for index in range(start, end):
        cosine = found.features[index, 0]
        found.features[index, 0] = cosine * np.float32(2.0)
        found.features[index, 1] = (cosine - best) * np.float32(4.0)
        found.features[index, 21] = 1.0


@compiled
def add_neighbours(near: Near, count: int, place: np.ndarray, found: Found) -> None:
    """Add the neighbour weights and leading items of each candidate, and clear the neighbours."""
    for at in range(count):
        index = place[near.rows[at]] - 1
        if index >= 0:
            found.leads[index] = near.leads[at]
            found.logs[index, 9] = near.weights[at] + 1e-3
            if near.of_last[at] > 0:
                found.logs[index, 10] = near.of_last[at] + 1e-3
            found.features[index, 13] = 1.0
        near.at[near.rows[at]] = 0


@compiled
def add_repeats(rows: np.ndarray, place: np.ndarray, found: Found, start: int, end: int) -> None:
    """Add count and recency of the user's events on each candidate."""
    for steps_back in range(len(rows)):
        index = place[rows[len(rows) - 1 - steps_back]] - 1
        if index < 0:
            continue
        if found.features[index, 14] == 0.0:
            found.features[index, 14] = 1.0
            found.features[index, 16] = 1.0 / (1.0 + 0.3 * steps_back)
        found.features[index, 15] += 1.0
    for index in range(start, end):
        if found.features[index, 14] > 0.0:
            found.features[index, 15] = np.log(found.features[index, 15])


@compiled
def gather_interests(categories: np.ndarray, interests: Interests) -> int:
    """Compute the shares of categories in a user's sequence, and return their number."""
    distinct, now, lasting = 0, 1.0, 1.0
    total_now, total_lasting = 0.0, 0.0
    for event in range(len(categories) - 1, -1, -1):
        at = 0
        while at < distinct and interests.codes[at] != categories[event]:
            at += 1
        if at == distinct:
            interests.codes[at] = categories[event]
            interests.now[at] = interests.lasting[at] = 0.0
            distinct += 1
        interests.now[at] += now
        interests.lasting[at] += lasting
        total_now += now
        total_lasting += lasting
        now *= DISTANCE_DECAY
        lasting *= INTEREST_DECAY
    for at in range(distinct):
        interests.now[at] /= total_now
        interests.lasting[at] /= total_lasting
    return distinct


@compiled
def add_categories(tables: Tables, interests: Interests, distinct: int, found: Found, start: int, end: int) -> None:
    """Add the share of each candidate's category in the user's sequence, and its popularity within the category."""
    knows = False
    for at in range(distinct):
        knows |= interests.codes[at] > 0
    for index in range(start, end):
        row = found.rows[index]
        found.logs[index, 11] = found.logs[index, 12] = found.logs[index, 13] = _NO_SHARE
        shelf = tables.shelf_of[row] if row < len(tables.shelf_of) else -1
        if shelf >= 0:
            for ranking in range(tables.shelf_totals.shape[1]):
                share = tables.counts[row, HALF_LIVES[ranking]] / (tables.shelf_totals[shelf, ranking] + _TINY)
                found.logs[index, 12 + ranking] = max(share, _NO_SHARE)
        category = tables.category[row]
        if category <= 0 or not knows:
            continue
        if category == interests.codes[0]:
            found.features[index, 17] = 1.0
        for at in range(distinct):
            if interests.codes[at] == category:
                found.features[index, 18] = interests.now[at]
                found.logs[index, 11] = max(interests.lasting[at], _NO_SHARE)
                break


@compiled
def add_lengths(times_ms: np.ndarray, found: Found, start: int, end: int) -> None:
    """Add the length of the sequence, and the pause before its last event."""
    length = np.log1p(len(times_ms)) * 0.3
    gap_ms = max(times_ms[-1] - times_ms[-2], 0) if len(times_ms) > 1 else 0
    gap = np.log1p(gap_ms / 60_000.0) * 0.15
    for index in range(start, end):
        found.features[index, 19] = length
        found.features[index, 20] = gap


@compiled
def add_session(users: Users, user: int, place: np.ndarray, found: Found, start: int, end: int) -> None:
    """Return the time since a user's event on an item, and whether it was in the current session."""
    begin = users.ends[user - 1] if user > 0 else 0
    rows, times_ms = users.rows[begin : users.ends[user]], users.times_ms[begin : users.ends[user]]
    if len(rows) == 0:
        return
    now_ms = users.now_ms[user]
    silence = _log_hours(now_ms - times_ms[-1])
    later_ms, begun = now_ms, len(rows)
    while begun > 0 and later_ms - times_ms[begun - 1] <= SESSION_GAP_MS:
        begun -= 1
        later_ms = times_ms[begun]
    for event in range(len(rows)):  # the latest event of an item is last
        index = place[rows[event]] - 1
        if index >= 0:
            found.features[index, 22] = _log_hours(now_ms - times_ms[event])
            found.features[index, 23] = event >= begun
    length = np.log1p(len(rows) - begun) * 0.3
    for index in range(start, end):
        found.features[index, 24] = silence
        found.features[index, 25] = length


@compiled
def _log_hours(age_ms: int) -> float:
    logged: float = np.log1p(max(age_ms, 0) / 60_000.0) * 0.15
    return logged
