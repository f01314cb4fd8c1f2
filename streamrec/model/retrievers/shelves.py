"""Popular and new items by category: candidates for users interested in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled

HALF_LIVES = (3, 4)
"""Half-lives of popularity, a day and a week, for the most popular items of a category."""

ROWS_PER_RANKING = 8
"""Number of items per category for each of these half-lives, and of new items."""

RANKINGS = len(HALF_LIVES) + 1
SHELF_ROWS = RANKINGS * ROWS_PER_RANKING

MAX_SHELVES = 65_536
"""Maximum number of categories; beyond it those of the lowest rows are kept. A shelf takes 200 bytes."""

_FIRST_CAPACITY = 256


class Shelves(NamedTuple):
    """Popular and new items of each category, by shelf; S shelves.

    Attributes
    ----------
    keys, places
        Hash table from category code to shelf, code 0 for free slots, `(2^n,)`.
    of_row
        Shelf of each row, -1 for none, `(size,)`.
    rows
        Rows on each shelf, 0 for padding; may contain duplicates, `(S, SHELF_ROWS)`.
    totals
        Counts of all items of the category, by half-life, `(S, len(HALF_LIVES))`.
    """

    keys: np.ndarray
    places: np.ndarray
    of_row: np.ndarray
    rows: np.ndarray
    totals: np.ndarray


def shelves_of(category: np.ndarray, counts: np.ndarray, first_ms: np.ndarray) -> Shelves:
    """Return popular and new items of each category, in one pass over all rows.

    Parameters
    ----------
    category
        Category code by row, 0 for none, `(size,)`.
    counts, first_ms
        As in :class:`~streamrec.model.tables.popularity.Popularity`, of these rows.
    """
    keys, places, of_row, count = _assign(category)
    of_half_lives = np.ascontiguousarray(counts[:, HALF_LIVES])
    rows, totals = _fill(of_row, count, of_half_lives, first_ms)
    return Shelves(keys, places, of_row, rows, totals)


@compiled
def find_shelf(keys: np.ndarray, places: np.ndarray, code: int) -> int:
    """Return the shelf of a category, -1 if none."""
    at = _free_or_own(keys, code)
    return places[at] if keys[at] == code else -1


@compiled
def _free_or_own(keys: np.ndarray, code: int) -> int:
    """Return the slot of a code in the hash table, or the free slot for it."""
    mask = len(keys) - 1
    at = (code * 2_654_435_761 >> 7) & mask
    while keys[at] not in (0, code):
        at = (at + 1) & mask
    return at


@compiled
def _assign(category: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Assign a shelf to each category."""
    keys, places = np.zeros(_FIRST_CAPACITY, np.int64), np.zeros(_FIRST_CAPACITY, np.int32)
    of_row = np.full(len(category), -1, np.int32)
    count = 0
    for row in range(1, len(category)):
        code = category[row]
        if code <= 0:
            continue
        at = _free_or_own(keys, code)
        if keys[at] == 0:
            if count == MAX_SHELVES:
                continue
            keys[at], places[at] = code, count
            count += 1
        of_row[row] = places[at]
        if 2 * count > len(keys):
            more_keys, more_places = np.zeros(2 * len(keys), np.int64), np.zeros(2 * len(keys), np.int32)
            for old in range(len(keys)):
                if keys[old] > 0:
                    new = _free_or_own(more_keys, keys[old])
                    more_keys[new], more_places[new] = keys[old], places[old]
            keys, places = more_keys, more_places
    return keys, places, of_row, count


@compiled
def _fill(of_row: np.ndarray, count: int, counts: np.ndarray, first_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put the best rows of each ranking on each shelf, best first; ties by row."""
    rows = np.zeros((count, SHELF_ROWS), np.int32)
    best = np.zeros((count, SHELF_ROWS), np.float64)
    totals = np.zeros((count, counts.shape[1]), np.float32)
    for row in range(len(of_row)):
        shelf = of_row[row]
        if shelf < 0:
            continue
        for ranking in range(RANKINGS):
            if ranking < counts.shape[1]:
                value = float(counts[row, ranking])
                totals[shelf, ranking] += counts[row, ranking]
            else:
                value = float(first_ms[row])
            begin = ranking * ROWS_PER_RANKING
            at = begin + ROWS_PER_RANKING - 1
            if value <= best[shelf, at]:
                continue
            while at > begin and value > best[shelf, at - 1]:
                best[shelf, at], rows[shelf, at] = best[shelf, at - 1], rows[shelf, at - 1]
                at -= 1
            best[shelf, at], rows[shelf, at] = value, row
    return rows, totals
