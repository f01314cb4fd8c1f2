"""Products of queries with all rows of a table, with the fastest kernel for this CPU.

Tables of bytes are read faster, and CPUs multiply bytes faster where they have instructions for it; float products need
only the vectors. So the choice is made by measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import structlog

from streamrec.model.compiled import compiled, dot
from streamrec.model.retrievers import byte_products

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

Products = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Takes queries `(B, D)`, a table and its number of rows, and returns their inner products, `(B, N)`.

Of bytes they are int32, and the table comes from :func:`~streamrec.model.retrievers.byte_products.stored`; of floats
they are float32, and it is `(N, D)`.
"""


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


def _by_floats(queries: np.ndarray, table: np.ndarray, n: int) -> np.ndarray:
    if len(queries) == 1:
        return _dots(queries[0], table[:n])
    product: np.ndarray = queries @ table[:n].T
    return product


@compiled
def _dots(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the products of one query, `(1, N)`: for small tables faster than BLAS."""
    products = np.empty((1, len(rows)), np.float32)
    for index in range(len(rows)):
        products[0, index] = dot(rows[index], query)
    return products


_INT8 = Kernel("int8", byte_products.products, of_codes=True)
_FLOAT32 = Kernel("float32", _by_floats, of_codes=False)

KERNELS = (_INT8, _FLOAT32) if byte_products.INSTRUCTIONS else (_FLOAT32,)
"""The kernels that this CPU can run: `int8` needs instructions for products of bytes; `float32` uses BLAS, or a loop
for one query."""


@cache
def fastest(*, many: bool, large: bool) -> Kernel:
    """Return the fastest kernel for one query or many and a small or large table; measured when first asked."""
    best_s = _trials(many=many, large=large)
    kernel = min(best_s, key=lambda each: best_s[each] * (_CODES_COST if each.of_codes else 1.0))
    size = "large" if large else "small"
    instructions = byte_products.INSTRUCTIONS if kernel.of_codes else ""
    _log.info("search", kernel=kernel.name, cpu=instructions, table=size, queries="many" if many else "one")
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
    tables = {True: (queries, byte_products.stored(rows)), False: (queries.astype(np.float32), rows.astype(np.float32))}
    best_s: dict[Kernel, float] = {}
    for trial in range(_LARGE_TRIALS if large else _TRIALS):
        for kernel in kernels:
            if trial == 0:  # compiled, loaded and initialized before timing
                kernel.products(*tables[kernel.of_codes], _FIRST_ROWS)
            if trial < _FAIR_TRIALS or best_s[kernel] <= _HOPELESS * min(best_s.values()):
                started_s = time.perf_counter()
                kernel.products(*tables[kernel.of_codes], len(rows))
                best_s[kernel] = min(best_s.get(kernel, np.inf), time.perf_counter() - started_s)
    return best_s


def for_search(rows: int, queries: int) -> Kernel:
    """Return the fastest kernel for this many rows and queries."""
    return fastest(many=queries >= MANY_QUERIES, large=rows >= LARGE_ROWS)
