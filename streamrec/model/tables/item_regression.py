"""Regression of items on the items that their users share, updated event by event.

EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", arXiv 1905.03375) predicts an item from all
others of a user by weights that follow from the inverse of the regularized matrix of shared users. Here each item's
column of the inverse is solved among its strongest neighbours only, for a few items per micro-batch, instead of the
whole matrix from time to time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.tables import neighbour_lists
from streamrec.model.tables.neighbour_lists import MAX_NEIGHBOURS, NeighbourLists
from streamrec.model.tables.vocabulary import grown
from streamrec.model.tensors import Arrays

LOOK_BACK = 32
"""Number of a user's latest distinct items that a new item is counted with."""

KEPT = 32
"""Number of weights kept of an item."""

HALF_LIFE_MS = 30 * 86_400_000.0

_RIDGE = 20.0
"""Users added to each item's own, which keep the weights of rare items small."""

_MAX_DOUBLINGS = 32.0


class Weights(NamedTuple):
    """The strongest positive weights from items to others, by row.

    Attributes
    ----------
    others, weights
        Best first, 0 for none, `(rows, KEPT)`.
    own
        Diagonal of the inverse, 0 for an item that was not solved yet, `(rows,)`.
    """

    others: np.ndarray
    weights: np.ndarray
    own: np.ndarray

    def grown(self, rows: int) -> Weights:
        """Return the weights with capacity for this many rows."""
        return self if rows <= len(self.own) else Weights(*(grown(table, rows) for table in self))


class ItemRegression:
    """Counts shared users, at most `MAX_NEIGHBOURS` neighbours per row, and solves for weights: 1.3 KiB per row."""

    def __init__(self) -> None:
        self.reference_ms = 0
        self._lists = NeighbourLists.of(1024)
        self._users = np.zeros(1024, np.float32)
        self.solved = Weights(np.zeros((1024, KEPT), np.int32), np.zeros((1024, KEPT), np.float32), np.zeros(1024))

    def add(self, before: np.ndarray, row: int, time_ms: int) -> None:
        """Count a user's first event on a row, after those on others, distinct and latest last, `(n,)`."""
        doublings = (time_ms - self.reference_ms) / HALF_LIFE_MS
        if doublings > _MAX_DOUBLINGS:
            factor = np.float32(2.0 ** -((time_ms - self.reference_ms) / HALF_LIFE_MS))
            self._lists.weights[:] *= factor
            self._users *= factor
            self.reference_ms, doublings = time_ms, 0.0
        self._reserve(int(max(row, before.max(initial=0))) + 1)
        weight = 2.0**doublings
        self._users[row] += weight
        neighbour_lists.share(self._lists, before, row, weight)

    def solve(self, rows: np.ndarray, now_ms: int) -> None:
        """Solve for the weights of some rows."""
        self._reserve(int(rows.max(initial=0)) + 1)
        scale = 2.0 ** ((now_ms - self.reference_ms) / HALF_LIFE_MS)
        _solve(self._lists, self._users, _RIDGE * scale, rows, self.solved)

    def clear(self, row: int) -> list[int]:
        """Clear a row, remove it from all others, and return those."""
        self._reserve(row + 1)
        changed: list[int] = neighbour_lists.clear(self._lists, row).tolist()
        self._users[row] = 0.0
        for table in self.solved:
            table[row] = 0
        for other in changed:
            # a weight of zero ends a list, and is never published
            self.solved.weights[other][self.solved.others[other] == row] = 0.0
        return changed

    def state(self) -> Arrays:
        """Return the state as arrays, for a checkpoint."""
        return {
            "reference_ms": np.array([self.reference_ms]),
            **neighbour_lists.packed(self._lists),
            "users": self._users.copy(),
            **{f"solved_{name}": table.copy() for name, table in zip(Weights._fields, self.solved, strict=True)},
        }

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        self.reference_ms = int(state["reference_ms"][0])
        self._users = state["users"].copy()
        self.solved = Weights(*(state[f"solved_{name}"].copy() for name in Weights._fields))
        self._lists = neighbour_lists.unpacked(state, len(self._users))

    def _reserve(self, rows: int) -> None:
        self._lists, self.solved = self._lists.grown(rows), self.solved.grown(rows)
        self._users = grown(self._users, rows)


@compiled
def _solve(lists: NeighbourLists, users: np.ndarray, ridge: float, rows: np.ndarray, solved: Weights) -> None:
    """Solve each row's column of the inverse among its neighbours."""
    matrix = np.zeros((MAX_NEIGHBOURS + 1, MAX_NEIGHBOURS + 1))
    column = np.zeros(MAX_NEIGHBOURS + 1)
    for row in rows:
        solved.others[row, :] = 0
        solved.weights[row, :] = 0.0
        n = lists.lengths[row]
        among = np.sort(lists.others[row, :n])
        for one in range(n):
            matrix[one, : n + 1] = 0.0
            matrix[one, one] = users[among[one]] + ridge
        for one in range(n):
            other = among[one]
            for at in range(lists.lengths[other]):
                place = np.searchsorted(among, lists.others[other, at])
                if place < n and among[place] == lists.others[other, at]:
                    shared = max(lists.weights[other, at], matrix[one, place])
                    matrix[one, place] = matrix[place, one] = shared
        for at in range(n):
            place = np.searchsorted(among, lists.others[row, at])
            matrix[n, place] = lists.weights[row, at]
        matrix[n, n] = users[row] + ridge
        column[:n] = 0.0
        column[n] = 1.0
        _invert(matrix, n + 1, ridge, column)
        solved.own[row] = column[n]
        for at in range(n):
            other = among[at]
            own = solved.own[other] if solved.own[other] > 0.0 else 1.0 / (users[other] + ridge)
            _keep(solved.others[row], solved.weights[row], other, -column[at] / own)


@compiled
def _invert(matrix: np.ndarray, n: int, ridge: float, column: np.ndarray) -> None:
    """Solve a symmetric system in place, given its lower triangle, by Cholesky's decomposition."""
    for one in range(n):
        for other in range(one + 1):
            value = matrix[one, other]
            for at in range(other):
                value -= matrix[one, at] * matrix[other, at]
            if one == other:
                # neighbours that are not counted may leave it indefinite
                matrix[one, one] = np.sqrt(max(value, 0.1 * ridge))
            else:
                matrix[one, other] = value / matrix[other, other]
    for one in range(n):
        for at in range(one):
            column[one] -= matrix[one, at] * column[at]
        column[one] /= matrix[one, one]
    for one in range(n - 1, -1, -1):
        for at in range(one + 1, n):
            column[one] -= matrix[at, one] * column[at]
        column[one] /= matrix[one, one]


@compiled
def _keep(others: np.ndarray, weights: np.ndarray, other: int, weight: float) -> None:
    """Insert a positive weight if it is among the strongest."""
    at = len(weights) - 1
    if weight <= weights[at]:
        return
    while at > 0 and weight > weights[at - 1]:
        others[at], weights[at] = others[at - 1], weights[at - 1]
        at -= 1
    others[at], weights[at] = other, weight
