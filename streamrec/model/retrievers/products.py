"""Products of queries with all rows of a table, with the fastest kernel for this CPU.

CPUs multiply bytes faster where they have instructions for it. So the choice is made by measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import structlog

from streamrec.model.compiled import compiled, compiled_loosely
from streamrec.model.retrievers import byte_products
from streamrec.model.retrievers.item_vectors import ItemVectors, product

MANY_QUERIES = 8
"""From this many queries on, the kernel that is fastest for many queries is used."""

LARGE_ROWS = 32_768
"""From this many rows on, the kernel that is fastest on a table larger than the CPU's inner caches is used."""

_TRIAL_ROWS, _LARGE_TRIAL_ROWS, _TRIAL_DIM = 8_192, 131_072, 64
_FIRST_ROWS = 1_024

_TRIALS, _LARGE_TRIALS, _FAIR_TRIALS, _HOPELESS = 30, 5, 2, 3.0
"""Number of trials; after the first ones, a kernel is not tried again that takes this many times as long as another."""

_log = structlog.get_logger(__name__)

_ROUNDING = 1e-5
"""Upper bound on the single-precision error of a product of unit vectors."""

_QUERY_CODE = 127
_LARGEST_NORM = 1.1
"""Upper bound on the norm of a quantized unit vector."""

_DECODED_ROWS = 1_024
"""Rows that are decoded together for products of floats: they stay in the CPU's inner caches."""

Products = Callable[[np.ndarray, ItemVectors], tuple[np.ndarray, np.ndarray]]
"""Takes queries, `(B, D)`, and N vectors, and returns their inner products, `(B, N)`, float32, and by how much two
products of a query may differ for their order to be unknown, `(B,)`."""


class Kernel(NamedTuple):
    """A kernel.

    Attributes
    ----------
    name
        Name in logs and benchmarks.
    products
        The function.
    """

    name: str
    products: Products


def _by_bytes(queries: np.ndarray, vectors: ItemVectors) -> tuple[np.ndarray, np.ndarray]:
    codes, steps, errors = _rounded(queries)
    return byte_products.products(codes, steps, vectors), 2.0 * (_LARGEST_NORM * errors + _ROUNDING)


def _by_floats(queries: np.ndarray, vectors: ItemVectors) -> tuple[np.ndarray, np.ndarray]:
    rows, margins = len(vectors.steps), np.full(len(queries), 2.0 * _ROUNDING)
    products = np.empty((len(queries), rows), np.float32)
    if len(queries) == 1:
        _multiply(queries[0], vectors, products[0])
        return products, margins
    decoded = np.empty((_DECODED_ROWS, vectors.dim), np.float32)
    for first in range(0, rows, _DECODED_ROWS):
        its = slice(first, min(first + _DECODED_ROWS, rows))
        _decode(vectors.codes[its], vectors.steps[its], decoded)
        products[:, its] = queries @ decoded[: its.stop - first].T
    return products, margins


@compiled
def _decode(codes: np.ndarray, steps: np.ndarray, decoded: np.ndarray) -> None:
    for row in range(len(codes)):
        for column in range(codes.shape[1]):
            decoded[row, column] = np.float32(codes[row, column]) * steps[row]


@compiled
def _multiply(query: np.ndarray, vectors: ItemVectors, products: np.ndarray) -> None:
    for row in range(len(products)):
        products[row] = product(vectors.codes[row], query) * vectors.steps[row]


@compiled
def _rounded(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the codes of queries, `(B, D)`, int8, their quantization steps, and the norms of their errors, `(B,)`."""
    codes = np.empty(queries.shape, np.int8)
    steps, errors = np.empty(len(queries), np.float32), np.empty(len(queries))
    for user in range(len(queries)):
        largest = np.float32(1e-20)
        for column in range(queries.shape[1]):
            largest = max(largest, abs(queries[user, column]))
        steps[user] = largest / np.float32(_QUERY_CODE)
        errors[user] = np.sqrt(_round(queries[user], steps[user], codes[user]))
    return codes, steps, errors


@compiled_loosely
def _round(vector: np.ndarray, step: np.float32, codes: np.ndarray) -> np.float32:
    """Write the codes of a vector, and return the squared quantization error."""
    per_step = np.float32(1.0) / step
    squares = np.float32(0.0)
    for column in range(len(vector)):
        code = np.rint(vector[column] * per_step)
        codes[column] = np.int8(np.int32(code))
        off = vector[column] - code * step
        squares += off * off
    return squares


_INT8 = Kernel("int8", _by_bytes)
_FLOAT32 = Kernel("float32", _by_floats)

KERNELS = (_INT8, _FLOAT32) if byte_products.INSTRUCTIONS else (_FLOAT32,)
"""The kernels that this CPU can run: `int8` needs instructions for products of bytes; `float32` uses BLAS, or a loop
for one query."""


@cache
def fastest(*, many: bool, large: bool) -> Kernel:
    """Return the fastest kernel for one query or many and a small or large table; measured when first asked."""
    best_s = _trials(many=many, large=large)
    kernel = min(best_s, key=best_s.__getitem__)
    size = "large" if large else "small"
    instructions = byte_products.INSTRUCTIONS if kernel is _INT8 else ""
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
        rng.standard_normal((_TRIAL_ROWS, _TRIAL_DIM), np.float32) / np.float32(_TRIAL_DIM**0.5),
        (_LARGE_TRIAL_ROWS if large else _TRIAL_ROWS, _TRIAL_DIM),
    )
    queries, vectors = rows[: 2 * MANY_QUERIES if many else 1], ItemVectors.of(rows)
    best_s: dict[Kernel, float] = {}
    for trial in range(_LARGE_TRIALS if large else _TRIALS):
        for kernel in kernels:
            if trial == 0:  # compiled, loaded and initialized before timing
                kernel.products(queries, vectors.head(_FIRST_ROWS))
            if trial < _FAIR_TRIALS or best_s[kernel] <= _HOPELESS * min(best_s.values()):
                started_s = time.perf_counter()
                kernel.products(queries, vectors)
                best_s[kernel] = min(best_s.get(kernel, np.inf), time.perf_counter() - started_s)
    return best_s


def for_search(rows: int, queries: int) -> Kernel:
    """Return the fastest kernel for this many rows and queries."""
    return fastest(many=queries >= MANY_QUERIES, large=rows >= LARGE_ROWS)
