"""A growing embedding table, with an Adam optimizer that only updates the rows of a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.99, 1e-8
_TABLES = ("weight", "momentum", "variance", "steps")
_INITIAL_STD = 0.02
"""Initial norm: small, so that the first steps rotate rows fast; only their direction matters."""


class RowTable:
    """Embedding rows with lazily updated Adam state: first moment by value, second moment and step count by row.

    The cost of a step depends on the rows in it, not on the size of the table.

    Parameters
    ----------
    dim
        Width of a row.
    learning_rate
        Learning rate of Adam; rows see few steps each, and need a much higher one than dense weights.
    device
        Device of the table.
    """

    def __init__(self, dim: int, *, learning_rate: float, device: torch.device) -> None:
        self.learning_rate = learning_rate
        self.weight = torch.zeros(1024, dim, device=device)
        self.momentum = torch.zeros_like(self.weight)
        self.variance = torch.zeros(1024, device=device)
        self.steps = torch.zeros(1024, device=device)

    def reserve(self, rows: int) -> bool:
        """Grow to this many rows, and return whether the tables were reallocated."""
        if rows <= len(self.weight):
            return False
        extra = max(rows, 2 * len(self.weight)) - len(self.weight)
        for name in _TABLES:
            table = getattr(self, name)
            setattr(self, name, torch.cat([table, table.new_zeros(extra, *table.shape[1:])]))
        return True

    def reset(self, rows: Tensor, generator: torch.Generator) -> None:
        """Reset these rows: a small random vector and no optimizer state."""
        noise = torch.randn(len(rows), self.weight.shape[1], generator=generator)
        self.weight[rows] = _INITIAL_STD * noise.to(self.weight.device)
        self.momentum[rows] = 0.0
        self.variance[rows] = 0.0
        self.steps[rows] = 0.0

    def point(self, rows: Tensor, directions: Tensor) -> None:
        """Initialize new rows with given directions, unit vectors `(rows, D)`."""
        self.weight[rows] = directions * _INITIAL_STD * self.weight.shape[1] ** 0.5

    def update(self, rows: Tensor, gradient: Tensor) -> None:
        """Run one Adam step on distinct rows; rows without gradient are unchanged."""
        squared = gradient.square().mean(1)
        # selected by arithmetic instead of a mask, whose size would require a GPU synchronization
        moved = (squared > 0).float()
        steps = self.steps[rows] + moved
        momentum = self.momentum[rows].lerp(gradient, (1 - _BETA_1) * moved[:, None])
        variance = self.variance[rows].lerp(squared, (1 - _BETA_2) * moved)
        self.steps[rows], self.momentum[rows], self.variance[rows] = steps, momentum, variance
        taken = steps.clamp(min=1.0)  # unused for rows that never moved
        size = self.learning_rate * moved / (1 - _BETA_1**taken)
        scale = size / ((variance / (1 - _BETA_2**taken)).sqrt() + _EPSILON)
        self.weight[rows] -= scale[:, None] * momentum

    def state(self, rows: int) -> dict[str, np.ndarray]:
        """Return the state of the first rows, for a checkpoint."""
        return {name: getattr(self, name)[:rows].cpu().numpy().copy() for name in _TABLES}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        for name in _TABLES:
            setattr(self, name, torch.from_numpy(state[name]).to(self.weight.device))
