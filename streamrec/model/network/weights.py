"""Weights of torch modules as named arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from streamrec.model.tensors import Arrays


def weights_of(module: nn.Module) -> Arrays:
    """Return the weights of a module by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def load_weights(module: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Load what :func:`weights_of` returned into a module."""
    module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
