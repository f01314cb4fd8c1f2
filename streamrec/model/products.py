"""Products of vectors in 8 bits, by whichever kernel is faster on this processor.

oneDNN multiplies bytes with instructions that not every processor has (VNNI); without them it can be ten times slower
than a product of floats, where a compiled loop is not. Both give the same whole numbers, so a measurement chooses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from streamrec.model.compiled import compiled

MANY_QUERIES = 8
"""From so many queries on, the kernel that was faster for many of them is used."""

_TRIAL_ROWS, _TRIAL_DIM, _TRIALS = 8_192, 64, 5

Products = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes queries `(B, D)` and rows `(N, D)`, int8, and returns their inner products, `(B, N)`, int32."""


class Kernel(NamedTuple):
    """A way to multiply.

    Attributes
    ----------
    name
        As logs and benchmarks have it.
    products
        The function.
    """

    name: str
    products: Products


def _by_onednn(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    # it is behind no public name of torch or numpy
    return torch._int_mm(torch.from_numpy(queries), torch.from_numpy(rows).t()).numpy()  # noqa: SLF001


@compiled
def _by_loop(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    products = np.empty((len(queries), len(rows)), np.int32)
    for row in range(len(rows)):
        for query in range(len(queries)):
            product = np.int32(0)
            for column in range(rows.shape[1]):
                product += np.int32(rows[row, column]) * np.int32(queries[query, column])
            products[query, row] = product
    return products


KERNELS = (Kernel("int8", _by_onednn), Kernel("int8-loop", _by_loop))
"""`int8` uses oneDNN, `int8-loop` a loop that numba compiles for this processor."""


@cache
def fastest(*, many: bool) -> Kernel:
    """Return the kernel that is faster here, for one query or for many; measured once, in milliseconds."""
    rng = np.random.default_rng(0)
    rows = rng.integers(-63, 64, (_TRIAL_ROWS, _TRIAL_DIM), np.int8)
    queries = rng.integers(-127, 128, (2 * MANY_QUERIES if many else 1, _TRIAL_DIM), np.int8)
    return min(KERNELS, key=lambda kernel: _fastest_s(kernel, queries, rows))


def for_queries(count: int) -> Kernel:
    """Return the kernel that is faster here for so many queries."""
    return fastest(many=count >= MANY_QUERIES)


def chosen() -> str:
    """Return the names of the kernels that are used here, for one query and for many."""
    return " / ".join(dict.fromkeys(fastest(many=many).name for many in (False, True)))


def _fastest_s(kernel: Kernel, queries: np.ndarray, rows: np.ndarray) -> float:
    kernel.products(queries, rows)  # compiled or loaded before it is timed
    times_s = []
    for _ in range(_TRIALS):
        started_s = time.perf_counter()
        kernel.products(queries, rows)
        times_s.append(time.perf_counter() - started_s)
    return min(times_s)
