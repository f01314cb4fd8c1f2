"""Lists of neighbours as arrays, and the compiled loops over them; see :mod:`streamrec.model.tables.covisitation`.

A pair has a slot in the list of the row it follows. Slots with the same neighbour are linked, so that a freed row is
removed from every list without a search.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.tables.vocabulary import grown
from streamrec.model.tensors import Arrays

MAX_NEIGHBOURS = 64
"""Maximum number of neighbours per item."""

KEPT_WHEN_FULL = 48
"""Neighbours kept when a list overflows, so that eviction is rare and new pairs can grow."""

DISTANCE_DECAY = 0.75
SESSION_GAP_MS = 30 * 60_000
OTHER_SESSION_WEIGHT = 0.35
"""Factor for pairs separated by a pause of half an hour."""

BACKWARD_WEIGHT = 0.3
"""Factor for the reverse direction of a pair."""


class NeighbourLists(NamedTuple):
    """Neighbour lists by row, with linked lists of the slots of each neighbour.

    A slot is `MAX_NEIGHBOURS * row + column`; the padding row has no list, so 0 means no slot.

    Attributes
    ----------
    lengths
        Number of neighbours of each row, `(rows,)`.
    others, weights
        Neighbours and their weights, in insertion order, `(rows, MAX_NEIGHBOURS)`.
    first
        First slot with the row as neighbour, `(rows,)`.
    next, previous
        Slots with the same neighbour as this one, `(rows, MAX_NEIGHBOURS)`.
    """

    lengths: np.ndarray
    others: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    next: np.ndarray
    previous: np.ndarray

    @classmethod
    def of(cls, rows: int) -> NeighbourLists:
        """Return empty lists for this many rows."""
        shape = (rows, MAX_NEIGHBOURS)
        return cls(
            np.zeros(rows, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.float32),
            np.zeros(rows, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int32),
        )

    def grown(self, rows: int) -> NeighbourLists:
        """Return the lists with capacity for this many rows."""
        return self if rows <= len(self.lengths) else NeighbourLists(*(grown(table, rows) for table in self))


def packed(lists: NeighbourLists) -> Arrays:
    """Return all pairs, for a checkpoint."""
    is_taken = np.arange(MAX_NEIGHBOURS) < lists.lengths[:, None]
    return {
        "row": np.repeat(np.arange(len(lists.lengths), dtype=np.int32), lists.lengths),
        "other": lists.others[is_taken],
        "weight": lists.weights[is_taken],
    }


def unpacked(pairs: Arrays, rows: int = 0) -> NeighbourLists:
    """Invert :func:`packed`, with capacity for this many rows at least."""
    owners, others = pairs["row"].astype(np.int64), pairs["other"].astype(np.int64)
    needed = int(max(owners.max(initial=0), others.max(initial=0))) + 1
    lists = NeighbourLists.of(1024).grown(max(rows, needed))
    _restore(lists, owners, others, pairs["weight"].astype(np.float32))
    return lists


@compiled
def share(lists: NeighbourLists, others: np.ndarray, row: int, weight: float) -> None:
    """Add to the weights of a row and each of these others, distinct, in both directions."""
    for other in others:
        if other != row:
            _add(lists, other, row, weight)
            _add(lists, row, other, weight)


@compiled
def pair(lists: NeighbourLists, prefix: np.ndarray, row: int, time_ms: int, weight: float) -> np.ndarray:
    """Pair an event with the previous ones, `(n, 2)` of row and time, and return the rows whose lists changed."""
    changed = np.zeros(len(prefix) + 1, np.int64)
    count = 0
    later_ms = time_ms
    for index in range(len(prefix) - 1, -1, -1):
        other, other_ms = prefix[index]
        if later_ms - other_ms > SESSION_GAP_MS:
            weight *= OTHER_SESSION_WEIGHT
        later_ms = other_ms
        if other != row and not (changed[:count] == other).any():
            _add(lists, other, row, weight)
            _add(lists, row, other, weight * BACKWARD_WEIGHT)
            changed[count] = other
            count += 1
        weight *= DISTANCE_DECAY
    if count:
        changed[count] = row
        count += 1
    return changed[:count]


@compiled
def _add(lists: NeighbourLists, row: int, other: int, weight: float) -> None:
    """Add to the weight of a pair."""
    for column in range(lists.lengths[row]):
        if lists.others[row, column] == other:
            lists.weights[row, column] += weight
            return
    if lists.lengths[row] == MAX_NEIGHBOURS:
        _keep_strongest(lists, row)
    _append(lists, row, other, weight)


@compiled
def _append(lists: NeighbourLists, row: int, other: int, weight: float) -> None:
    column = lists.lengths[row]
    lists.lengths[row] += 1
    _put(lists, row, column, other, weight)


@compiled
def _put(lists: NeighbourLists, row: int, column: int, other: int, weight: float) -> None:
    """Write a pair to a free slot, which becomes the head of its linked list."""
    place, following = MAX_NEIGHBOURS * row + column, lists.first[other]
    lists.others[row, column] = other
    lists.weights[row, column] = weight
    lists.previous[row, column] = 0
    lists.next[row, column] = following
    if following:
        lists.previous[following // MAX_NEIGHBOURS, following % MAX_NEIGHBOURS] = place
    lists.first[other] = place


@compiled
def _take_out(lists: NeighbourLists, row: int, column: int) -> None:
    """Unlink a slot."""
    previous, following = lists.previous[row, column], lists.next[row, column]
    if previous:
        lists.next[previous // MAX_NEIGHBOURS, previous % MAX_NEIGHBOURS] = following
    else:
        lists.first[lists.others[row, column]] = following
    if following:
        lists.previous[following // MAX_NEIGHBOURS, following % MAX_NEIGHBOURS] = previous


@compiled
def _keep_strongest(lists: NeighbourLists, row: int) -> None:
    """Evict from a full list."""
    others, weights = np.zeros(KEPT_WHEN_FULL, np.int32), np.zeros(KEPT_WHEN_FULL, np.float32)
    kept = _sort(lists, row, others, weights)
    for column in range(MAX_NEIGHBOURS):
        _take_out(lists, row, column)
    lists.lengths[row] = 0
    for index in range(kept):
        _append(lists, row, others[index], weights[index])


@compiled
def _sort(lists: NeighbourLists, row: int, others: np.ndarray, weights: np.ndarray) -> int:
    """Write the strongest neighbours of a row, best first, up to the output's size; return their number."""
    count = 0
    for column in range(lists.lengths[row]):
        weight = lists.weights[row, column]
        at = count if count < len(weights) else count - 1
        if at < count and weight <= weights[at]:
            continue
        while at > 0 and weight > weights[at - 1]:
            others[at], weights[at] = others[at - 1], weights[at - 1]
            at -= 1
        others[at], weights[at] = lists.others[row, column], weight
        count = min(count + 1, len(weights))
    return count


@compiled
def strongest(lists: NeighbourLists, rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lengths, neighbours and weights of the strongest neighbours of each row, concatenated."""
    lengths = np.minimum(lists.lengths[rows], n)
    others, weights = np.zeros(lengths.sum(), np.int32), np.zeros(lengths.sum(), np.float32)
    start = 0
    for index in range(len(rows)):
        end = start + lengths[index]
        _sort(lists, rows[index], others[start:end], weights[start:end])
        start = end
    return lengths, others, weights


@compiled
def clear(lists: NeighbourLists, row: int) -> np.ndarray:
    """Clear the list of a row, remove the row from all other lists, and return the affected rows."""
    for column in range(lists.lengths[row]):
        _take_out(lists, row, column)
    lists.lengths[row] = 0
    count, place = 0, lists.first[row]
    while place:
        place = lists.next[place // MAX_NEIGHBOURS, place % MAX_NEIGHBOURS]
        count += 1
    changed = np.zeros(count, np.int64)
    for index in range(count):
        holder, column = lists.first[row] // MAX_NEIGHBOURS, lists.first[row] % MAX_NEIGHBOURS
        changed[index] = holder
        _take_out(lists, holder, column)
        lists.lengths[holder] -= 1
        last = lists.lengths[holder]
        if column < last:  # moved from the end
            _take_out(lists, holder, last)
            _put(lists, holder, column, lists.others[holder, last], lists.weights[holder, last])
    return changed


@compiled
def _restore(lists: NeighbourLists, rows: np.ndarray, others: np.ndarray, weights: np.ndarray) -> None:
    """Append pairs, in the order given."""
    for index in range(len(rows)):
        _append(lists, rows[index], others[index], weights[index])
