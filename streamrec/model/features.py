"""The features of candidates, compiled; `blend.py` names them.

Each function fills some columns for the candidates of one user, `start` to `end`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled, dot
from streamrec.model.neighbour_lists import DISTANCE_DECAY, SESSION_GAP_MS
from streamrec.model.shelves import HALF_LIVES

COUNT_FLOOR = 0.02
"""A count below this is as good as none: no evidence rather than strong evidence against."""

LOGS = np.r_[2:13, 26:29]
"""Features that are logarithms: the kernel leaves their arguments, and all are taken at once."""

LOG_SCALE = np.array([0.3] * 6 + [0.15, 0.15, 0.3, 0.2, 0.2] + [0.3] * 3, np.float32)
LOG_SHIFT = np.array([0.0] * 9 + [1.4, 1.4] + [1.2] * 3, np.float32)
_NO_NEIGHBOUR = np.float32(np.exp(-7.0))
"""What makes the logarithm of a neighbour's weight zero after scale and shift."""

_NO_SHARE = np.float32(np.exp(-4.0))
"""Likewise of shares, which are no smaller: little interest in a category, little of its popularity."""

_TINY = np.float32(1e-6)

INTEREST_DECAY = 0.95
"""An event weighs so much less than the one after it where interest in categories is told: some twenty of them count,
of several visits, while `DISTANCE_DECAY` tells what the session is about."""


class Tables(NamedTuple):
    """What candidates are described with, by row; see :class:`~streamrec.model.serving.ServingModel`."""

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
    """Whom candidates are for."""

    ends: np.ndarray
    """Where the events of each user end, `(B,)`."""
    rows: np.ndarray
    times_ms: np.ndarray
    categories: np.ndarray
    now_ms: np.ndarray
    decays: np.ndarray
    """What is left of a count now, by half-life, `(B, H)`."""
    hidden: np.ndarray
    """`(B, D)`"""
    nearest: np.ndarray
    """Rows nearest to it, none where nothing is known of the user, `(B, N)`; -1 for no row."""
    left_out: np.ndarray
    """Rows that are no candidates, one user's after the other's."""
    left_out_ends: np.ndarray
    """Where those of each user end, `(B,)`."""


class Found(NamedTuple):
    """Where candidates go; there is room for all."""

    rows: np.ndarray
    leads: np.ndarray
    features: np.ndarray
    logs: np.ndarray
    """Arguments of the logarithms, `(M, 14)`."""


class Interests(NamedTuple):
    """The categories of one user's sequence, latest first; room for as many as there are events."""

    codes: np.ndarray
    now: np.ndarray
    """Share of the sequence, weighted towards the newest few events."""
    lasting: np.ndarray
    """The same of the whole sequence."""


class Near(NamedTuple):
    """Distinct neighbours of one user's newest items."""

    at: np.ndarray
    """By row: 1 + where it is in the others, 0 where it is no neighbour; zeros between two users."""
    rows: np.ndarray
    weights: np.ndarray
    of_last: np.ndarray
    """The part of the weight that comes from the last item."""
    best: np.ndarray
    leads: np.ndarray
    """Whose strongest neighbour it is, and how strong that is."""


@compiled
def add_popularity(tables: Tables, users: Users, user: int, found: Found, start: int, end: int) -> None:
    """Add how popular and how old each candidate is, as arguments of logarithms."""
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
    """Add how near each candidate is to the user, if anything is known of the user."""
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
    """Add how strong a neighbour each candidate is and of what, and clear what was gathered of neighbours."""
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
    """Add how often and how lately the user met each candidate."""
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
    """Find how much of a user's sequence is in each of its categories, and return how many there are."""
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
    """Add how much of the user's sequence is in the category of each candidate, and how popular it is in that."""
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
    """Add how long the sequence is, and the pause before its last event."""
    length = np.log1p(len(times_ms)) * 0.3
    gap_ms = max(times_ms[-1] - times_ms[-2], 0) if len(times_ms) > 1 else 0
    gap = np.log1p(gap_ms / 60_000.0) * 0.15
    for index in range(start, end):
        found.features[index, 19] = length
        found.features[index, 20] = gap


@compiled
def add_session(users: Users, user: int, place: np.ndarray, found: Found, start: int, end: int) -> None:
    """Say how long ago a user had an item, and whether in the session that goes on."""
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
    for event in range(len(rows)):  # the newest of an item comes last and stays
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
