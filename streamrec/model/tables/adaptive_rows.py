"""Growing rows with an optimizer that only updates the rows of a step."""

from __future__ import annotations

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.tables.vocabulary import grown
from streamrec.model.tensors import Arrays

_EPSILON = np.float32(1e-10)


class AdaptiveRows:
    """Rows updated by AdaGrad (Duchi et al. 2011) with one step size per row: 4 bytes beside a row.

    The cost of a step depends on the rows in it, not on the size of the table.

    Parameters
    ----------
    dim
        Width of a row.
    learning_rate
        Length of a row's first step, in units of root mean squares.

    Attributes
    ----------
    weights
        By row, `(capacity, D)`, float32.
    """

    def __init__(self, dim: int, *, learning_rate: float) -> None:
        self._learning_rate = np.float32(learning_rate)
        self.weights = np.zeros((1024, dim), np.float32)
        self._squares = np.zeros(1024, np.float32)

    def reserve(self, rows: int) -> None:
        """Grow to this many rows."""
        self.weights, self._squares = grown(self.weights, rows), grown(self._squares, rows)

    def set(self, rows: np.ndarray, weights: np.ndarray) -> None:
        """Set rows, and forget their steps."""
        self.weights[rows], self._squares[rows] = weights, 0.0

    def update(self, rows: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """Take a step along the sums of the gradients of each row, except row 0, and return the distinct rows.

        Parameters
        ----------
        rows
            Rows, which may repeat, `(n,)`.
        gradients
            Gradient for each, `(n, D)`, float32.
        """
        distinct, inverse = np.unique(rows, return_inverse=True)
        _update(self.weights, self._squares, distinct, _summed(inverse, gradients, len(distinct)), self._learning_rate)
        return distinct[distinct > 0]

    def state(self) -> Arrays:
        """Return the state as arrays, for a checkpoint."""
        return {"weights": self.weights.copy(), "squares": self._squares.copy()}

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        self.weights, self._squares = state["weights"].copy(), state["squares"].copy()


@compiled
def _summed(groups: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros((count, values.shape[1]), np.float32)
    for index in range(len(groups)):
        for column in range(values.shape[1]):
            sums[groups[index], column] += values[index, column]
    return sums


@compiled
def _update(
    weights: np.ndarray, squares: np.ndarray, rows: np.ndarray, gradients: np.ndarray, learning_rate: np.float32
) -> None:
    dim = weights.shape[1]
    for index in range(len(rows)):
        row = rows[index]
        if row == 0:
            continue
        total = np.float32(0.0)
        for column in range(dim):
            total += gradients[index, column] ** 2
        squares[row] += total / np.float32(dim)
        step = learning_rate / np.sqrt(squares[row] + _EPSILON)
        for column in range(dim):
            weights[row, column] -= step * gradients[index, column]
