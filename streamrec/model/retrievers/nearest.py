"""Exact nearest-neighbour search: approximate scores for all items, exact ones for possible results.

Approximate scores are products of bytes, of the items' codes with a query that is rounded, too. Their error is bounded,
so items further than twice the bound below the n-th best score cannot be among the n best.
"""

from __future__ import annotations

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.item_vectors import ItemVectors, product
from streamrec.model.retrievers.products import Kernel, for_search

GROUP = 32
"""Group size of approximate scores; most groups are excluded by their maximum."""

BLOCK = 32 * GROUP
"""Rows of 32 interleaved groups. A group is every 32nd row, so that maxima are computed with SIMD."""

SCORES_TOGETHER = 1 << 20
"""Approximate scores of several users in memory at the same time, 4 MiB: they stay in the CPU's caches."""

LEAST_TOGETHER = 8
"""Users whose scores are in memory at the same time, however many items there are: they share reading the table."""


def nearest(
    vectors: ItemVectors, size: int, queries: np.ndarray, n: int, *, kernel: Kernel | None = None
) -> np.ndarray:
    """Return the rows with the highest inner product with each query, exactly.

    Parameters
    ----------
    vectors, size
        Vectors, of which the first rows are searched.
    queries
        Unit vectors, `(B, D)`, float32; NaN counts as 0.
    n
        Number of rows.
    kernel
        Kernel of the products; by default the fastest on this machine.

    Returns
    -------
    np.ndarray
        Unordered rows, `(B, min(n, size))`.
    """
    queries, vectors = _finite(queries), vectors.head(size)
    together = _together(size, len(queries))
    parts = [queries[first : first + together] for first in range(0, len(queries), together)]
    kernel = kernel or kernel_for(size, len(queries))
    found = [_nearest(vectors, part, min(n, size), kernel) for part in parts]
    return found[0] if len(found) == 1 else np.concatenate(found)


def kernel_for(rows: int, queries: int) -> Kernel:
    """Return the default kernel for this many rows and queries."""
    return for_search(rows, _together(rows, queries))


def _together(rows: int, queries: int) -> int:
    """Return how many queries are scored together."""
    return min(queries, max(LEAST_TOGETHER, SCORES_TOGETHER // rows))


def _nearest(vectors: ItemVectors, queries: np.ndarray, n: int, kernel: Kernel) -> np.ndarray:
    scores, margins = kernel.products(queries, vectors)
    maxima = _group_maxima(scores)
    groups = maxima.shape[1]
    if n <= groups:
        # the n-th best score is at least the n-th best of the groups' maxima
        bounds = np.partition(maxima, groups - n, axis=1)[:, groups - n] - margins
    else:
        bounds = np.full(len(queries), -np.inf)
    # no bound for zero queries or NaN vectors
    at_least = np.fmax(bounds, -np.inf).astype(np.float32)
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
    vectors: ItemVectors, queries: np.ndarray, scores: np.ndarray, maxima: np.ndarray, at_least: np.ndarray, n: int
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
    rows, exact = np.empty(scores.shape[1], np.int64), np.empty(scores.shape[1], np.float32)
    for user in range(len(queries)):
        candidates = _collect(rows, scores[user], maxima[user], at_least[user])
        for candidate in range(candidates):
            row = rows[candidate]
            exact[candidate] = product(vectors.codes[row], queries[user]) * vectors.steps[row]
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
