"""The compiled inner loop of ranking: the candidates of each user with their features.

A list takes microseconds of arithmetic; with array operations the overhead of a hundred calls per batch took several
times as long. Everything works on flat arrays: the concatenated events of all users, oldest first, and likewise the
candidates, with ascending rows. W is the number of rows of the model, padded.
"""

from __future__ import annotations

import numpy as np

from streamrec.model.compiled import compiled, dot
from streamrec.model.ranking.features import (
    Found,
    Interests,
    Near,
    Tables,
    Users,
    add_categories,
    add_cosines,
    add_lengths,
    add_neighbours,
    add_popularity,
    add_repeats,
    add_session,
    gather_interests,
)
from streamrec.model.retrievers.shelves import SHELF_ROWS, find_shelf
from streamrec.model.tables.neighbour_lists import DISTANCE_DECAY, OTHER_SESSION_WEIGHT, SESSION_GAP_MS

NEIGHBOURS_OF = 8
"""Number of the latest distinct items whose neighbours are candidates."""

MAX_NEIGHBOUR_CANDIDATES = 128

CATEGORIES_OF = 4
"""Number of the strongest categories of the sequence whose popular and new items are candidates."""

MAX_CATEGORY_CANDIDATES = CATEGORIES_OF * SHELF_ROWS


@compiled
def describe(tables: Tables, users: Users, everyones: np.ndarray, found: Found) -> np.ndarray:
    """Find the candidates of each user and compute their features; return the end of each user's, `(B,)`.

    Parameters
    ----------
    everyones
        Rows that are candidates for every user, in addition to the items of the user's sequence.
    """
    width = len(tables.may_be)
    is_candidate = np.zeros(width, np.uint8)
    place = np.zeros(width, np.int32)
    most = NEIGHBOURS_OF * tables.neighbours.shape[1]
    near = Near(
        np.zeros(width, np.int32),
        np.zeros(most, np.int64),
        np.zeros(most, np.float64),
        np.zeros(most, np.float64),
        np.zeros(most, np.float32),
        np.zeros(most, np.int64),
    )
    longest, begin = 0, 0
    for end in users.ends:
        longest, begin = max(longest, end - begin), end
    interests = Interests(np.zeros(longest, np.int64), np.zeros(longest, np.float64), np.zeros(longest, np.float64))
    ends = np.zeros(len(users.ends), np.int64)
    begin, left_out_begin, start = 0, 0, 0
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
        distinct = gather_interests(categories, interests)
        _mark_of_categories(tables, interests, distinct, is_candidate)
        for row in rows:
            is_candidate[row] = 1
        for row in users.left_out[left_out_begin : users.left_out_ends[user]]:
            is_candidate[row] = 0
        end = _take(is_candidate, tables.may_be, found, start)
        for index in range(start, end):
            place[found.rows[index]] = index + 1
        add_popularity(tables, users, user, found, start, end)
        add_cosines(tables, users, user, found, start, end)
        add_neighbours(near, count, place, found)
        add_repeats(rows, place, found, start, end)
        add_categories(tables, interests, distinct, found, start, end)
        add_lengths(times_ms, found, start, end)
        add_session(users, user, place, found, start, end)
        for index in range(start, end):
            place[found.rows[index]] = 0
        begin, left_out_begin, start = users.ends[user], users.left_out_ends[user], end
        ends[user] = end
    return ends


@compiled
def _gather_neighbours(tables: Tables, rows: np.ndarray, times_ms: np.ndarray, now_ms: int, near: Near) -> int:
    """Collect the neighbours of the latest items, and return their number."""
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
    at = 0
    while at < count and values[at] != value:
        at += 1
    return at < count


@compiled
def _mark_strongest(near: Near, count: int, is_candidate: np.ndarray) -> None:
    """Mark the strongest neighbours, ties by row."""
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
def _mark_of_categories(tables: Tables, interests: Interests, distinct: int, is_candidate: np.ndarray) -> None:
    """Mark popular and new items in the user's strongest categories, ties by recency."""
    below, marked = np.inf, 0
    while marked < CATEGORIES_OF:
        strongest = 0.0
        for at in range(distinct):
            if interests.codes[at] > 0 and interests.lasting[at] < below:
                strongest = max(strongest, interests.lasting[at])
        if strongest == 0.0:
            break
        for at in range(distinct):
            if interests.codes[at] > 0 and interests.lasting[at] == strongest and marked < CATEGORIES_OF:
                shelf = find_shelf(tables.shelf_keys, tables.shelf_places, interests.codes[at])
                if shelf >= 0:
                    for row in tables.shelf_rows[shelf]:
                        is_candidate[row] = 1
                marked += 1
        below = strongest


@compiled
def _take(is_candidate: np.ndarray, may_be: np.ndarray, found: Found, start: int) -> int:
    """List the marked rows ascending, clear the marks, and return the end of the list."""
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
def newest_own(category: np.ndarray, rows: np.ndarray, owners: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return for each row its owner's latest item in the same category, 0 if none, `(n,)`.

    Parameters
    ----------
    category
        Category code by row, 0 for none.
    rows, owners
        Rows, and whose they are, `(n,)`.
    own
        Items of each owner, newest first, 0 for none, `(B, m)`.
    """
    newest = np.zeros(len(rows), np.int64)
    for index in range(len(rows)):
        code = category[rows[index]]
        for other in own[owners[index]]:
            if code > 0 and other > 0 and other != rows[index] and category[other] == code:
                newest[index] = other
                break
    return newest


@compiled
def nearest_own(vectors: np.ndarray, rows: np.ndarray, owners: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return for each row the nearest of its owner's items, 0 for an owner without any, `(n,)`.

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
