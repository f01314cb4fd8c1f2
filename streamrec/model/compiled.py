"""Loops over arrays that are compiled on their first call and cached on disk.

They are kept beside the source, else in the user's cache, or where `NUMBA_CACHE_DIR` says; where none of these can be
written to, each process compiles them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function of a module; it runs without the GIL.

    One that uses compiled functions of an enclosing function would be compiled again by every process.
    """
    return _jitted(function, fastmath=False)


def compiled_loosely(function: F) -> F:
    """Compile a function with reassociation of additions, so that loops can be vectorized."""
    return _jitted(function, fastmath={"reassoc", "contract"})


def _jitted(function: F, *, fastmath: bool | set[str]) -> F:
    try:
        return cast("F", njit(cache=True, nogil=True, fastmath=fastmath)(function))
    except RuntimeError:  # no directory to keep it in
        return cast("F", njit(nogil=True, fastmath=fastmath)(function))


@compiled_loosely
def dot(one: np.ndarray, other: np.ndarray) -> np.float32:
    """Return the inner product of two vectors, float32."""
    total = np.float32(0.0)
    for column in range(len(one)):
        total += one[column] * other[column]
    return total
