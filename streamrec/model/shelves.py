"""What is popular and what is new within each category: candidates of the users who are interested in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled

HALF_LIVES = (3, 4)
"""Of these half-lives of popularity, a day and a week, the most popular items of a category are found."""

ROWS_PER_RANKING = 8
"""Items of a category: so many of each of these half-lives, and as many that are new."""

RANKINGS = len(HALF_LIVES) + 1
SHELF_ROWS = RANKINGS * ROWS_PER_RANKING

MAX_SHELVES = 65_536
"""Categories that are found; where there are more, those of the lowest rows are. A shelf takes 200 bytes."""

_FIRST_CAPACITY = 256


class Shelves(NamedTuple):
    """The items of each category that are popular or new, by shelf; S shelves.

    Attributes
    ----------
    keys, places
        A hash table from category code to shelf, code 0 where it is free, `(2^n,)`.
    of_row
        Shelf of each row, -1 for none, `(size,)`.
    rows
        Rows on each shelf, 0 for none; one may occur several times, `(S, SHELF_ROWS)`.
    totals
        Counts of all items of the category, by half-life, `(S, len(HALF_LIVES))`.
    """

    keys: np.ndarray
    places: np.ndarray
    of_row: np.ndarray
    rows: np.ndarray
    totals: np.ndarray


def shelves_of(category: np.ndarray, counts: np.ndarray, first_ms: np.ndarray) -> Shelves:
    """Return what is popular and new in each category; one pass over all rows.

    Parameters
    ----------
    category
        Category code by row, 0 for none, `(size,)`.
    counts, first_ms
        As in :class:`~streamrec.model.popularity.Popularity`, of these rows.
    """
    keys, places, of_row, count = _assign(category)
    of_half_lives = np.ascontiguousarray(counts[:, HALF_LIVES])
    rows, totals = _fill(of_row, count, of_half_lives, first_ms)
    return Shelves(keys, places, of_row, rows, totals)


@compiled
def find_shelf(keys: np.ndarray, places: np.ndarray, code: int) -> int:
    """Return the shelf of a category, -1 if it has none."""
    at = _free_or_own(keys, code)
    return places[at] if keys[at] == code else -1


@compiled
def _free_or_own(keys: np.ndarray, code: int) -> int:
    """Return where a code is in the hash table, or where it would go."""
    mask = len(keys) - 1
    at = (code * 2_654_435_761 >> 7) & mask
    while keys[at] not in (0, code):
        at = (at + 1) & mask
    return at


@compiled
def _assign(category: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Give each category a shelf."""
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
    """Put the best rows of each ranking on each shelf, best first; of equals the lower row."""
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
