"""Named arrays of weights and optimizer state for checkpoints and updates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

Arrays = dict[str, np.ndarray]


def prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return the arrays under `prefix.name`."""
    return {f"{prefix}.{name}": value for name, value in arrays.items()}


def below(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Invert :func:`prefixed`.

    Examples
    --------
    >>> list(below("a", {"a.b": 1, "c.d": 2}))
    ['b']
    """
    return {name.removeprefix(f"{prefix}."): value for name, value in arrays.items() if name.startswith(f"{prefix}.")}


def weights_of(module: nn.Module) -> Arrays:
    """Return the weights of a module by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def load_weights(module: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Load what :func:`weights_of` returned into a module."""
    module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
