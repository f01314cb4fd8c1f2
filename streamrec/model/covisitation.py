"""Which items follow which in users' sequences: a bounded, decaying neighbour list per item.

The neighbour methods that still beat most networks on session data (STAN, Garg et al. 2019; VSTAN, Ludewig et al. 2020)
weigh a pair by how close its two events are, and by age. The same weights are kept here per item instead of per
session, so that an event costs a few numbers and no old session needs to be stored.

A pair has a place in the list of the row it follows. The places that hold the same neighbour are chained, so that a row
that is given up leaves every list without a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.vocabulary import grown

MAX_NEIGHBOURS = 64
"""Of each item, the strongest."""

KEPT_WHEN_FULL = 48
"""A list that overflows keeps so many, so that eviction is rare and a new pair gets its chance."""

LOOK_BACK = 8
"""An event is paired with so many before it: `DISTANCE_DECAY` makes the rest worthless."""

DISTANCE_DECAY = 0.75
SESSION_GAP_MS = 30 * 60_000
OTHER_SESSION_WEIGHT = 0.35
"""A pair with a pause of half an hour in between says less."""

BACKWARD_WEIGHT = 0.3
"""Order matters, but the pair itself says something in the other direction too."""

LEAST_SHARE = 1 / 64
"""An event that counts for less makes no pair: it would take the place of one in a full list."""

HALF_LIFE_MS = 7 * 86_400_000.0
_MAX_DOUBLINGS = 32.0


class Neighbours(NamedTuple):
    """Neighbour lists of several rows, one row's after the other's.

    Attributes
    ----------
    lengths
        How many neighbours each row has, `(R,)`.
    others, weights
        Neighbours, best first, and their weights as of `Covisitation.reference_ms`, `(sum of lengths,)`.
    """

    lengths: np.ndarray
    others: np.ndarray
    weights: np.ndarray


class Covisitation:
    """Decayed weights of ordered pairs of rows, at most `MAX_NEIGHBOURS` after each row: 1 KiB a row.

    Examples
    --------
    >>> pairs = Covisitation()
    >>> pairs.add([(1, 0), (2, 1_000)], 3, 2_000)
    [2, 1, 3]
    >>> pairs.strongest([2, 3], 1).others.tolist()
    [3, 2]
    """

    def __init__(self) -> None:
        self.reference_ms = 0
        self._lists = _Lists.of(1024)

    def add(self, prefix: Sequence[tuple[int, int]], row: int, time_ms: int, share: float = 1.0) -> list[int]:
        """Pair an event with those before it.

        Parameters
        ----------
        prefix
            Row and event time of the user's events before this one, oldest first.
        row, time_ms
            The event.
        share
            What it counts for: a user who goes back and forth between two items makes one pair, not hundreds.

        Returns
        -------
        list of int
            The rows whose lists changed.
        """
        if share < LEAST_SHARE:
            return []
        doublings = (time_ms - self.reference_ms) / HALF_LIFE_MS
        if doublings > _MAX_DOUBLINGS:
            self._move_reference(time_ms)
            doublings = 0.0
        before = np.array(prefix[-LOOK_BACK:], np.int64).reshape(-1, 2)
        self._lists = self._lists.grown(int(max(row, before[:, 0].max(initial=0))) + 1)
        changed: list[int] = _pair(self._lists, before, row, time_ms, share * 2.0**doublings).tolist()
        return changed

    def strongest(self, rows: Sequence[int] | np.ndarray, n: int) -> Neighbours:
        """Return the strongest neighbours of each row, of equal ones those that came first."""
        asked = np.asarray(rows, np.int64)
        self._lists = self._lists.grown(int(asked.max(initial=0)) + 1)
        return Neighbours(*_strongest(self._lists, asked, n))

    def clear(self, row: int) -> list[int]:
        """Forget a row, and return the rows whose lists changed."""
        self._lists = self._lists.grown(row + 1)
        changed: list[int] = _clear(self._lists, row).tolist()
        return changed

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, for a checkpoint."""
        lists = self._lists
        is_taken = np.arange(MAX_NEIGHBOURS) < lists.lengths[:, None]
        return {
            "reference_ms": np.array([self.reference_ms]),
            "row": np.repeat(np.arange(len(lists.lengths), dtype=np.int32), lists.lengths),
            "other": lists.others[is_taken],
            "weight": lists.weights[is_taken],
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Become what :meth:`state` returned."""
        self.reference_ms = int(state["reference_ms"][0])
        rows, others = state["row"].astype(np.int64), state["other"].astype(np.int64)
        self._lists = _Lists.of(1024).grown(int(max(rows.max(initial=0), others.max(initial=0))) + 1)
        _restore(self._lists, rows, others, state["weight"].astype(np.float32))

    def _move_reference(self, to_ms: int) -> None:
        self._lists.weights[:] *= 2.0 ** (-(to_ms - self.reference_ms) / HALF_LIFE_MS)
        self.reference_ms = to_ms


def warm_up() -> None:
    """Compile what keeps pairs, or read it from the disk, before an event waits for it."""
    pairs = Covisitation()
    pairs.add([(1, 0)], 2, 1)
    pairs.strongest([1], 1)
    pairs.clear(1)
    pairs.load(pairs.state())


class _Lists(NamedTuple):
    """Neighbour lists by row, and the chain of the places that hold each row.

    A place is `MAX_NEIGHBOURS * row + column`; the padding row has no list, so that 0 is no place.

    Attributes
    ----------
    lengths
        How many neighbours a row has, `(rows,)`.
    others, weights
        Neighbours and their weights, those that came first before others, `(rows, MAX_NEIGHBOURS)`.
    first
        A place that holds the row, `(rows,)`.
    next, previous
        Places that hold the same neighbour as this one, `(rows, MAX_NEIGHBOURS)`.
    """

    lengths: np.ndarray
    others: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    next: np.ndarray
    previous: np.ndarray

    @classmethod
    def of(cls, rows: int) -> _Lists:
        shape = (rows, MAX_NEIGHBOURS)
        return cls(
            np.zeros(rows, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.float32),
            np.zeros(rows, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int32),
        )

    def grown(self, rows: int) -> _Lists:
        """Return the lists with room for so many rows."""
        return self if rows <= len(self.lengths) else _Lists(*(grown(table, rows) for table in self))


@compiled
def _pair(lists: _Lists, prefix: np.ndarray, row: int, time_ms: int, weight: float) -> np.ndarray:
    """Pair an event with those before it, `(n, 2)` of row and time, and return the rows whose lists changed."""
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
def _add(lists: _Lists, row: int, other: int, weight: float) -> None:
    """Add to the weight of a pair."""
    for column in range(lists.lengths[row]):
        if lists.others[row, column] == other:
            lists.weights[row, column] += weight
            return
    if lists.lengths[row] == MAX_NEIGHBOURS:
        _keep_strongest(lists, row)
    _append(lists, row, other, weight)


@compiled
def _append(lists: _Lists, row: int, other: int, weight: float) -> None:
    column = lists.lengths[row]
    lists.lengths[row] += 1
    _put(lists, row, column, other, weight)


@compiled
def _put(lists: _Lists, row: int, column: int, other: int, weight: float) -> None:
    """Write a pair to a free place, which becomes the first of its chain."""
    place, following = MAX_NEIGHBOURS * row + column, lists.first[other]
    lists.others[row, column] = other
    lists.weights[row, column] = weight
    lists.previous[row, column] = 0
    lists.next[row, column] = following
    if following:
        lists.previous[following // MAX_NEIGHBOURS, following % MAX_NEIGHBOURS] = place
    lists.first[other] = place


@compiled
def _take_out(lists: _Lists, row: int, column: int) -> None:
    """Take a place out of its chain."""
    previous, following = lists.previous[row, column], lists.next[row, column]
    if previous:
        lists.next[previous // MAX_NEIGHBOURS, previous % MAX_NEIGHBOURS] = following
    else:
        lists.first[lists.others[row, column]] = following
    if following:
        lists.previous[following // MAX_NEIGHBOURS, following % MAX_NEIGHBOURS] = previous


@compiled
def _keep_strongest(lists: _Lists, row: int) -> None:
    """Make room in a full list."""
    others, weights = np.zeros(KEPT_WHEN_FULL, np.int32), np.zeros(KEPT_WHEN_FULL, np.float32)
    kept = _sort(lists, row, others, weights)
    for column in range(MAX_NEIGHBOURS):
        _take_out(lists, row, column)
    lists.lengths[row] = 0
    for index in range(kept):
        _append(lists, row, others[index], weights[index])


@compiled
def _sort(lists: _Lists, row: int, others: np.ndarray, weights: np.ndarray) -> int:
    """Write the strongest neighbours of a row, best first, as many as there is room for; return how many."""
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
def _strongest(lists: _Lists, rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = np.minimum(lists.lengths[rows], n)
    others, weights = np.zeros(lengths.sum(), np.int32), np.zeros(lengths.sum(), np.float32)
    start = 0
    for index in range(len(rows)):
        end = start + lengths[index]
        _sort(lists, rows[index], others[start:end], weights[start:end])
        start = end
    return lengths, others, weights


@compiled
def _clear(lists: _Lists, row: int) -> np.ndarray:
    """Empty the list of a row, take it from all others, and return whose those are."""
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
        if column < last:  # the last one takes its place
            _take_out(lists, holder, last)
            _put(lists, holder, column, lists.others[holder, last], lists.weights[holder, last])
    return changed


@compiled
def _restore(lists: _Lists, rows: np.ndarray, others: np.ndarray, weights: np.ndarray) -> None:
    """Append pairs, in the order given."""
    for index in range(len(rows)):
        _append(lists, rows[index], others[index], weights[index])
