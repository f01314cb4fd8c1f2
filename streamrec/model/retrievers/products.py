"""Products of queries with all rows of a table, with the fastest kernel for this CPU.

oneDNN multiplies bytes with VNNI instructions, which not every CPU has; without them it can be ten times slower than a
float product, unlike a compiled loop. Tables of bytes are read faster; float products need only the vectors. So the
choice is made by measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import structlog
import torch

from streamrec.model.compiled import compiled, dot

MANY_QUERIES = 8
"""From this many queries on, the kernel that is fastest for many queries is used."""

LARGE_ROWS = 32_768
"""From this many rows on, the kernel that is fastest on a table larger than the CPU's inner caches is used."""

_TRIAL_ROWS, _LARGE_TRIAL_ROWS, _TRIAL_DIM = 8_192, 131_072, 64
_FIRST_ROWS = 1_024

_CODES_COST = 1.25
"""Factor on the duration of kernels that take codes: their scores are less exact, and more rows are scored again."""

_TRIALS, _LARGE_TRIALS, _FAIR_TRIALS, _HOPELESS = 30, 5, 2, 3.0
"""Number of trials; after the first ones, a kernel is not tried again that takes this many times as long as another."""

_log = structlog.get_logger(__name__)

Products = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes queries `(B, D)` and rows `(N, D)` and returns their inner products, `(B, N)`: int32 of int8, else float32."""


class Kernel(NamedTuple):
    """A kernel.

    Attributes
    ----------
    name
        Name in logs and benchmarks.
    products
        The function.
    of_codes
        Whether it takes 8-bit codes rather than the vectors themselves.
    """

    name: str
    products: Products
    of_codes: bool


def _by_onednn(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    # neither torch nor numpy has a public function for it
    return torch._int_mm(torch.from_numpy(queries), torch.from_numpy(rows).t()).numpy()  # noqa: SLF001


@compiled
def _by_loop(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    products = np.empty((len(queries), len(rows)), np.int32)
    # any CPU has an instruction that adds pairs of 16-bit products; a row is widened once for all queries
    wide = queries.astype(np.int16)
    row = np.empty(rows.shape[1], np.int16)
    for index in range(len(rows)):
        for column in range(rows.shape[1]):
            row[column] = rows[index, column]
        for query in range(len(queries)):
            product = np.int32(0)
            for column in range(rows.shape[1]):
                product += np.int32(row[column]) * np.int32(wide[query, column])
            products[query, index] = product
    return products


def _by_floats(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if len(queries) == 1:
        return _dots(queries[0], rows)
    # numpy's product uses one thread per core
    return (torch.from_numpy(queries) @ torch.from_numpy(rows).t()).numpy()


@compiled
def _dots(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the products of one query, `(1, N)`: for small tables faster than BLAS."""
    products = np.empty((1, len(rows)), np.float32)
    for index in range(len(rows)):
        products[0, index] = dot(rows[index], query)
    return products


KERNELS = (
    Kernel("int8", _by_onednn, of_codes=True),
    Kernel("int8-loop", _by_loop, of_codes=True),
    Kernel("float32", _by_floats, of_codes=False),
)
"""`int8` uses oneDNN, `int8-loop` a loop compiled by numba for this CPU, `float32` torch's BLAS, or a loop for one
query."""


@cache
def fastest(*, many: bool, large: bool) -> Kernel:
    """Return the fastest kernel for one query or many and a small or large table; measured when first asked."""
    best_s = _trials(many=many, large=large)
    kernel = min(best_s, key=lambda each: best_s[each] * (_CODES_COST if each.of_codes else 1.0))
    size = "large" if large else "small"
    _log.info("search", kernel=kernel.name, table=size, queries="many" if many else "one")
    return kernel


@cache
def _trials(*, many: bool, large: bool) -> dict[Kernel, float]:
    """Return the shortest duration of each kernel; on a large table, of those that are not hopeless on a small one."""
    kernels: tuple[Kernel, ...] = KERNELS
    if large:
        on_small = _trials(many=many, large=False)
        kernels = tuple(each for each in KERNELS if on_small[each] <= _HOPELESS * min(on_small.values()))
    rng = np.random.default_rng(0)
    rows = np.resize(
        rng.integers(-63, 64, (_TRIAL_ROWS, _TRIAL_DIM), np.int8),
        (_LARGE_TRIAL_ROWS if large else _TRIAL_ROWS, _TRIAL_DIM),
    )
    queries = rng.integers(-127, 128, (2 * MANY_QUERIES if many else 1, _TRIAL_DIM), np.int8)
    floats = queries.astype(np.float32), rows.astype(np.float32)
    best_s: dict[Kernel, float] = {}
    for trial in range(_LARGE_TRIALS if large else _TRIALS):
        for kernel in kernels:
            operands = (queries, rows) if kernel.of_codes else floats
            if trial == 0:  # compiled, loaded and initialized before timing
                kernel.products(operands[0], operands[1][:_FIRST_ROWS])
            if trial < _FAIR_TRIALS or best_s[kernel] <= _HOPELESS * min(best_s.values()):
                started_s = time.perf_counter()
                kernel.products(*operands)
                best_s[kernel] = min(best_s.get(kernel, np.inf), time.perf_counter() - started_s)
    return best_s


def for_search(rows: int, queries: int) -> Kernel:
    """Return the fastest kernel for this many rows and queries."""
    return fastest(many=queries >= MANY_QUERIES, large=rows >= LARGE_ROWS)
