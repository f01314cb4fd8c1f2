"""Named arrays of weights and optimizer state for checkpoints and updates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

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
