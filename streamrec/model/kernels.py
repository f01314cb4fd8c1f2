"""The inner loops of making lists, compiled: which items are candidates of each user, and their features.

A list takes microseconds of arithmetic; in array operations the calls alone, a hundred for a batch, took several times
as long. Everything here works on flat arrays: the events of all users, one user's after the other's, oldest first, and
the candidates in the same way, with ascending rows. W is the number of rows of the model, padded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled, dot
from streamrec.model.covisitation import DISTANCE_DECAY, OTHER_SESSION_WEIGHT, SESSION_GAP_MS

NEIGHBOURS_OF = 8
"""So many of the newest distinct items lead to neighbours."""

MAX_NEIGHBOUR_CANDIDATES = 128

COUNT_FLOOR = 0.02
"""A count below this is as good as none: no evidence rather than strong evidence against."""

LOGS = slice(2, 13)
"""Features that are logarithms: the kernel leaves their arguments, and all are taken at once."""

LOG_SCALE = np.array([0.3] * 6 + [0.15, 0.15, 0.3, 0.2, 0.2], np.float32)
LOG_SHIFT = np.array([0.0] * 9 + [1.4, 1.4], np.float32)
_NO_NEIGHBOUR = np.float32(np.exp(-7.0))
"""What makes the logarithm of a neighbour's weight zero after scale and shift."""


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


class Found(NamedTuple):
    """Where candidates go; there is room for all."""

    rows: np.ndarray
    leads: np.ndarray
    features: np.ndarray
    logs: np.ndarray
    """Arguments of the logarithms, `(M, 11)`."""


class _Near(NamedTuple):
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
def describe(tables: Tables, users: Users, everyones: np.ndarray, found: Found, hide_seen: bool) -> np.ndarray:
    """Find and describe the candidates of each user, and return where each one's end, `(B,)`.

    Parameters
    ----------
    everyones
        Rows that are candidates of every user.
    hide_seen
        Whether items of the user's sequence are none.
    """
    width = len(tables.may_be)
    is_candidate = np.zeros(width, np.uint8)
    place = np.zeros(width, np.int32)
    most = NEIGHBOURS_OF * tables.neighbours.shape[1]
    near = _Near(
        np.zeros(width, np.int32),
        np.zeros(most, np.int64),
        np.zeros(most, np.float64),
        np.zeros(most, np.float64),
        np.zeros(most, np.float32),
        np.zeros(most, np.int64),
    )
    ends = np.zeros(len(users.ends), np.int64)
    begin, start = 0, 0
    for user in range(len(users.ends)):
        rows, times_ms = users.rows[begin : users.ends[user]], users.times_ms[begin : users.ends[user]]
        categories = users.categories[begin : users.ends[user]]
        count = _gather_neighbours(tables, rows, times_ms, users.now_ms[user], near)
        for row in everyones:
            is_candidate[row] = 1
        for row in users.nearest[user]:
            if row >= 0:
                is_candidate[row] = 1
        _mark_strongest(near, count, is_candidate)
        for row in rows:
            is_candidate[row] = not hide_seen
        end = _take(is_candidate, tables.may_be, found, start)
        for index in range(start, end):
            place[found.rows[index]] = index + 1
        _add_popularity(tables, users, user, found, start, end)
        _add_cosines(tables, users, user, found, start, end)
        _add_neighbours(near, count, place, found)
        _add_repeats(rows, place, found, start, end)
        _add_categories(tables, rows, categories, found, start, end)
        _add_lengths(times_ms, found, start, end)
        for index in range(start, end):
            place[found.rows[index]] = 0
        begin, start = users.ends[user], end
        ends[user] = end
    return ends


@compiled
def _gather_neighbours(tables: Tables, rows: np.ndarray, times_ms: np.ndarray, now_ms: int, near: _Near) -> int:
    """Collect the neighbours of the newest items, and return how many there are."""
    count, found = 0, 0
    weight, later_ms = 1.0, now_ms
    done = np.zeros(NEIGHBOURS_OF, np.int64)
    for event in range(len(rows) - 1, -1, -1):
        if later_ms - times_ms[event] > SESSION_GAP_MS:
            weight *= OTHER_SESSION_WEIGHT
        later_ms = times_ms[event]
        row = rows[event]
        if row > 0 and not _holds(done, found, row):
            for column in range(tables.neighbours.shape[1]):
                other, share = tables.neighbours[row, column], tables.shares[row, column]
                if other == 0 or other >= len(tables.may_be):
                    continue
                at = near.at[other] - 1
                if at < 0:
                    at, count = count, count + 1
                    near.at[other] = count
                    near.rows[at] = other
                    near.weights[at] = near.of_last[at] = near.best[at] = 0.0
                near.weights[at] += weight * share
                if found == 0:
                    near.of_last[at] += share
                if share >= near.best[at]:
                    near.best[at], near.leads[at] = share, row
            done[found] = row
            found += 1
            if found == NEIGHBOURS_OF:
                break
        weight *= DISTANCE_DECAY
    return count


@compiled
def _holds(values: np.ndarray, count: int, value: int) -> bool:
    for at in range(count):
        if values[at] == value:
            return True
    return False


@compiled
def _mark_strongest(near: _Near, count: int, is_candidate: np.ndarray) -> None:
    """Mark the strongest neighbours, of equals those with lower rows."""
    if count <= MAX_NEIGHBOUR_CANDIDATES:
        for at in range(count):
            is_candidate[near.rows[at]] = 1
        return
    least = np.sort(near.weights[:count])[count - MAX_NEIGHBOUR_CANDIDATES]
    left = MAX_NEIGHBOUR_CANDIDATES - (near.weights[:count] > least).sum()
    equals = np.sort(near.rows[:count][near.weights[:count] == least])
    for at in range(count):
        if near.weights[at] > least:
            is_candidate[near.rows[at]] = 1
    for row in equals[:left]:
        is_candidate[row] = 1


@compiled
def _take(is_candidate: np.ndarray, may_be: np.ndarray, found: Found, start: int) -> int:
    """List the marked rows ascending, clear the marks, and return where the list ends."""
    end = start
    eights = is_candidate.view(np.uint64)
    for eight in range(len(eights)):
        if eights[eight] == 0:
            continue
        for row in range(8 * eight, 8 * eight + 8):
            if is_candidate[row] and may_be[row]:
                found.rows[end] = row
                found.leads[end] = 0
                found.features[end] = 0.0
                end += 1
        eights[eight] = 0
    return end


@compiled
def _add_popularity(tables: Tables, users: Users, user: int, found: Found, start: int, end: int) -> None:
    now_ms = users.now_ms[user]
    for index in range(start, end):
        row = found.rows[index]
        for half_life in range(tables.counts.shape[1]):
            found.logs[index, half_life] = (
                tables.counts[row, half_life] * users.decays[user, half_life] + np.float32(COUNT_FLOOR)
            )
        found.logs[index, 6] = 1.0 + max(now_ms - tables.first_ms[row], 0) / 60_000.0
        found.logs[index, 7] = 1.0 + max(now_ms - tables.last_ms[row], 0) / 60_000.0
        found.logs[index, 8] = 1.0 + tables.events[row]
        found.logs[index, 9] = found.logs[index, 10] = _NO_NEIGHBOUR


@compiled
def _add_cosines(tables: Tables, users: Users, user: int, found: Found, start: int, end: int) -> None:
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
def _add_neighbours(near: _Near, count: int, place: np.ndarray, found: Found) -> None:
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
def _add_repeats(rows: np.ndarray, place: np.ndarray, found: Found, start: int, end: int) -> None:
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
def _add_categories(
    tables: Tables, rows: np.ndarray, categories: np.ndarray, found: Found, start: int, end: int
) -> None:
    if not categories.any():
        return
    codes, shares = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float64)
    distinct, total, weight = 0, 0.0, 1.0
    for event in range(len(rows) - 1, -1, -1):
        at = 0
        while at < distinct and codes[at] != categories[event]:
            at += 1
        if at == distinct:
            codes[at] = categories[event]
            distinct += 1
        shares[at] += weight
        total += weight
        weight *= DISTANCE_DECAY
    for index in range(start, end):
        category = tables.category[found.rows[index]]
        if category <= 0:
            continue
        if category == codes[0]:
            found.features[index, 17] = 1.0
        for at in range(distinct):
            if codes[at] == category:
                found.features[index, 18] = shares[at] / total
                break


@compiled
def _add_lengths(times_ms: np.ndarray, found: Found, start: int, end: int) -> None:
    length = np.log1p(len(times_ms)) * 0.3
    gap_ms = max(times_ms[-1] - times_ms[-2], 0) if len(times_ms) > 1 else 0
    gap = np.log1p(gap_ms / 60_000.0) * 0.15
    for index in range(start, end):
        found.features[index, 19] = length
        found.features[index, 20] = gap


@compiled
def nearest_own(vectors: np.ndarray, rows: np.ndarray, owners: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return for each row which of its owner's items is nearest to it, 0 for an owner without any, `(n,)`.

    Parameters
    ----------
    vectors
        Unit vectors by row, `(capacity, D)`.
    rows, owners
        Rows, and whose they are, `(n,)`.
    own
        Items of each owner, 0 for none, `(B, m)`.
    """
    nearest = np.zeros(len(rows), np.int64)
    for index in range(len(rows)):
        best = np.float32(-np.inf)
        for other in own[owners[index]]:
            if other > 0:
                cosine = dot(vectors[rows[index]], vectors[other])
                if cosine > best:
                    best, nearest[index] = cosine, other
    return nearest
