"""Exact nearest-neighbour search: approximate scores for all items, exact ones for possible results.

Approximate scores are products of 8-bit integer vectors, which reduces memory reads to a quarter, or of floats where
those are faster. Their error is bounded, so items further than twice the bound below the n-th best score cannot be
among the n best.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled, compiled_loosely, dot
from streamrec.model.retrievers.byte_products import BLOCK_VECTORS, COLUMNS, OFFSET
from streamrec.model.retrievers.products import Kernel, for_search

GROUP = 32
"""Group size of approximate scores; most groups are excluded by their maximum."""

BLOCK = 32 * GROUP
"""Rows of 32 interleaved groups. A group is every 32nd row, so that maxima are computed with SIMD."""

SCORES_TOGETHER = 1 << 23
"""Approximate scores of several users in memory at the same time, 32 MiB; at least those of one user."""

_CODE = 63
"""7-bit codes: without VNNI, CPUs add two products of bytes in 16 bits, which must not overflow."""
_QUERY_CODE = 127
_ROUNDING = 1e-5
"""Upper bound on the single-precision error of a product of unit vectors."""


class RoughTable(NamedTuple):
    """Vectors quantized to 8 bits.

    Attributes
    ----------
    codes
        As :func:`~streamrec.model.retrievers.byte_products.stored`, `(N / 16, D / 4, 16, 4)`, rounded up.
    scale
        Quantization step.
    error
        Maximum distance of a quantized vector from the original.
    """

    codes: np.ndarray
    scale: float
    error: float

    def head(self, size: int) -> RoughTable:
        """Return the first rows."""
        return self._replace(codes=self.codes[: -(-size // BLOCK_VECTORS)])

    def clear(self, rows: np.ndarray) -> None:
        """Set rows to zero."""
        self.codes[rows // BLOCK_VECTORS, :, rows % BLOCK_VECTORS] = OFFSET


def rough_table(vectors: np.ndarray, size: int) -> RoughTable:
    """Return the first rows of `(capacity, D)` as :func:`nearest` takes them."""
    vectors = vectors[:size]
    scale = np.abs(vectors).max(initial=0.0) / np.float32(_CODE) or np.float32(1.0)
    codes, error = _rounded(vectors, scale)
    return RoughTable(codes, float(scale), float(error))


def nearest(
    vectors: np.ndarray, rough: RoughTable, queries: np.ndarray, n: int, *, kernel: Kernel | None = None
) -> np.ndarray:
    """Return the rows with the highest inner product with each query, exactly.

    Parameters
    ----------
    vectors
        Unit vectors, or zeros, `(N, D)`, float32.
    rough
        The same rows from :func:`rough_table`.
    queries
        Unit vectors, `(B, D)`, float32; NaN counts as 0.
    n
        Number of rows.
    kernel
        Kernel of the products; by default the fastest on this machine.

    Returns
    -------
    np.ndarray
        Unordered rows, `(B, min(n, N))`.
    """
    queries = _finite(queries)
    together = _together(len(vectors), len(queries))
    parts = [queries[first : first + together] for first in range(0, len(queries), together)]
    kernel = kernel or kernel_for(len(vectors), len(queries))
    found = [_nearest(vectors, rough, part, min(n, len(vectors)), kernel) for part in parts]
    return found[0] if len(found) == 1 else np.concatenate(found)


def kernel_for(rows: int, queries: int) -> Kernel:
    """Return the default kernel for this many rows and queries."""
    return for_search(rows, _together(rows, queries))


def _together(rows: int, queries: int) -> int:
    """Return how many queries are scored together."""
    return min(queries, max(1, SCORES_TOGETHER // rows))


def _nearest(vectors: np.ndarray, rough: RoughTable, queries: np.ndarray, n: int, kernel: Kernel) -> np.ndarray:
    if kernel.of_codes:
        codes, margins = _encoded(queries, rough.scale, rough.error)
        scores = kernel.products(codes, rough.codes, len(vectors))
        lowest = float(np.iinfo(np.int32).min)
    else:
        scores, margins = kernel.products(queries, vectors, len(vectors)), np.full(len(queries), 2.0 * _ROUNDING)
        lowest = -np.inf
    maxima = _group_maxima(scores)
    groups = maxima.shape[1]
    if n <= groups:
        # the n-th best score is at least the n-th best of the groups' maxima
        bounds = np.partition(maxima, groups - n, axis=1)[:, groups - n] - margins
    else:
        bounds = np.full(len(queries), lowest)
    # no bound for zero queries or NaN vectors
    at_least = np.fmax(bounds, lowest).astype(scores.dtype)
    return _search(vectors, queries, scores, maxima, at_least, n)


@compiled
def _finite(queries: np.ndarray) -> np.ndarray:
    """Return queries with NaN replaced by 0."""
    finite = np.empty(queries.shape, np.float32)
    for user in range(len(queries)):
        for column in range(queries.shape[1]):
            finite[user, column] = queries[user, column] if np.isfinite(queries[user, column]) else np.float32(0.0)
    return finite


@compiled
def _encoded(queries: np.ndarray, scale: float, error: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the int8 codes of queries, and the maximum difference of misordered scores, `(B,)`.

    Parameters
    ----------
    scale, error
        Of the table to multiply with.
    """
    codes, margins = np.empty(queries.shape, np.int8), np.empty(len(queries))
    for user in range(len(queries)):
        largest = np.float32(1e-20)
        for column in range(queries.shape[1]):
            largest = max(largest, abs(queries[user, column]))
        step = largest / np.float32(_QUERY_CODE)
        off = np.sqrt(_round(queries[user], step, codes[user]))
        # plus one, since the conversion of the bound to an integer truncates toward zero
        margins[user] = 2.0 * (error + (1.0 + error) * off + _ROUNDING) / (scale * step) + 1.0
    return codes, margins


@compiled
def _rounded(vectors: np.ndarray, scale: np.float32) -> tuple[np.ndarray, np.float32]:
    """Quantize vectors, and return the stored codes and the maximum quantization error."""
    dim = vectors.shape[1]
    stored = np.full((-(-len(vectors) // BLOCK_VECTORS), -(-dim // COLUMNS), BLOCK_VECTORS, COLUMNS), OFFSET, np.uint8)
    codes = np.empty(dim, np.int8)
    largest = np.float32(0.0)
    for row in range(len(vectors)):
        largest = max(largest, _round(vectors[row], scale, codes))
        block, place = stored[row // BLOCK_VECTORS], row % BLOCK_VECTORS
        for column in range(dim):
            block[column // COLUMNS, place, column % COLUMNS] = np.uint8(codes[column] + OFFSET)
    return stored, np.sqrt(largest)


@compiled_loosely
def _round(vector: np.ndarray, scale: np.float32, codes: np.ndarray) -> np.float32:
    """Write the codes of a vector, and return the squared quantization error."""
    per_step = np.float32(1.0) / scale
    squares = np.float32(0.0)
    for column in range(len(vector)):
        code = np.rint(vector[column] * per_step)
        codes[column] = np.int8(np.int32(code))
        off = vector[column] - code * scale
        squares += off * off
    return squares


@compiled
def _group_maxima(scores: np.ndarray) -> np.ndarray:
    """Return the maximum score of each group for each query, `(B, N // BLOCK * 32)`; excludes the remainder of N."""
    lanes = BLOCK // GROUP
    maxima = np.empty((len(scores), scores.shape[1] // BLOCK * lanes), scores.dtype)
    for user in range(len(scores)):
        for block in range(maxima.shape[1] // lanes):
            for lane in range(lanes):
                best = scores[user, block * BLOCK + lane]
                for member in range(1, GROUP):
                    best = max(best, scores[user, block * BLOCK + member * lanes + lane])
                maxima[user, block * lanes + lane] = best
    return maxima


@compiled
def _search(
    vectors: np.ndarray, queries: np.ndarray, scores: np.ndarray, maxima: np.ndarray, at_least: np.ndarray, n: int
) -> np.ndarray:
    """Return the n best rows of each query among those with a sufficient approximate score.

    Parameters
    ----------
    scores
        Approximate scores, `(B, N)`.
    maxima
        From :func:`_group_maxima`.
    at_least
        Minimum approximate score, `(B,)`.
    """
    found = np.zeros((len(queries), n), np.int64)  # valid rows, even if all scores are NaN
    rows, exact = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for user in range(len(queries)):
        candidates = _collect(rows, scores[user], maxima[user], at_least[user])
        for candidate in range(candidates):
            exact[candidate] = dot(vectors[rows[candidate]], queries[user])
        least = np.partition(exact[:candidates], candidates - n)[candidates - n]
        taken = 0
        for candidate in range(candidates):
            if exact[candidate] > least:
                found[user, taken] = rows[candidate]
                taken += 1
        for candidate in range(candidates):  # ties in any order
            if taken < n and exact[candidate] == least:
                found[user, taken] = rows[candidate]
                taken += 1
    return found


@compiled
def _collect(rows: np.ndarray, scores: np.ndarray, maxima: np.ndarray, at_least: np.number) -> int:
    """Write the rows with a sufficient or NaN score, and return their number."""
    lanes = BLOCK // GROUP
    count = 0
    for group in range(len(maxima) + 1):
        if group == len(maxima):  # the remainder
            members = range(group * GROUP, len(scores), 1)
        elif maxima[group] < at_least:
            continue
        else:
            first = group // lanes * BLOCK
            members = range(first + group % lanes, first + BLOCK, lanes)
        for row in members:
            rows[count] = row  # branch-free: the branch would be unpredictable
            count += 1 - (scores[row] < at_least)
    return count
