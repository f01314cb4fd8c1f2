"""The Adam optimizer of a few dense arrays, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrec.model.tensors import Arrays

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class DenseAdam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980).

    Parameters
    ----------
    weights
        Arrays to update in place, float32.
    learning_rate
        Learning rate.

    Attributes
    ----------
    steps
        Number of steps taken.
    """

    def __init__(self, weights: Sequence[np.ndarray], *, learning_rate: float) -> None:
        self._weights = weights
        self._learning_rate = learning_rate
        self._means = [np.zeros_like(each) for each in weights]
        self._squares = [np.zeros_like(each) for each in weights]
        self.steps = 0

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Take a step, given the gradient of each array."""
        self.steps += 1
        size = self._learning_rate * (1 - _BETA_2**self.steps) ** 0.5 / (1 - _BETA_1**self.steps)
        for index, gradient in enumerate(gradients):
            self._means[index] += (1 - _BETA_1) * (gradient - self._means[index])
            self._squares[index] += (1 - _BETA_2) * (gradient**2 - self._squares[index])
            self._weights[index][:] -= size * self._means[index] / (np.sqrt(self._squares[index]) + _EPSILON)

    def state(self) -> Arrays:
        """Return weights, moments and the number of steps, by index of the array."""
        tables = {"weight": self._weights, "mean": self._means, "square": self._squares}
        arrays = {f"{index}.{name}": each.copy() for name, table in tables.items() for index, each in enumerate(table)}
        return {**arrays, "steps": np.array([self.steps])}

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        self.steps = int(state["steps"][0])
        for name, table in (("weight", self._weights), ("mean", self._means), ("square", self._squares)):
            for index, each in enumerate(table):
                each[:] = state[f"{index}.{name}"]
