"""Exact nearest items: all items are scored roughly, and what can be among the best is scored again exactly.

Rough scores are products in half precision where the processor multiplies those faster. The error of one is bounded, so
whoever is further than twice the bound below the n-th best cannot be among the n best.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import torch
from torch import Tensor

from streamrec.model.compiled import compiled, dot
from streamrec.model.vocabulary import BLOCK_ROWS

GROUP = 32
"""Rough scores are looked at in groups of so many, of which most are left out by their best one."""

_ERROR = {torch.float32: 2.0**-16, torch.bfloat16: 2.0**-7}
"""How far a rough score of unit vectors can be off: both factors and the result are rounded to 8 bits, each by 2^-9 at
most; in single precision the order of additions alone matters."""

ROUGH_TYPES = tuple(_ERROR)

_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def rough_table(vectors: np.ndarray, size: int) -> Tensor:
    """Return the first rows as :func:`nearest` takes them, padded with zeros to whole blocks, `(N, D)`."""
    padded = -(-size // BLOCK_ROWS) * BLOCK_ROWS
    table = torch.zeros(padded, vectors.shape[1], dtype=_fastest())
    table[:size] = torch.from_numpy(vectors[:size])
    return table


def nearest(vectors: np.ndarray, size: int, rough: Tensor, queries: np.ndarray, n: int) -> np.ndarray:
    """Return the rows whose inner product with each query is highest, exactly.

    Parameters
    ----------
    vectors
        Unit vectors, or zeros, `(capacity, D)`, float32.
    size
        How many of its rows count.
    rough
        The same rows from :func:`rough_table`, `(N, D)`.
    queries
        Unit vectors, `(B, D)`, float32.
    n
        How many rows.

    Returns
    -------
    np.ndarray
        Rows in no order, `(B, min(n, size))`.
    """
    with torch.inference_mode():
        scores = (torch.from_numpy(queries).to(rough.dtype) @ rough.T).view(_BITS[rough.dtype]).numpy()
    n = min(n, size)
    maxima = _group_maxima(scores)
    # the n-th best score is no lower than the n-th best of the groups' best ones, of which padding may be some
    place = maxima.shape[1] - n - (len(rough) - size)
    at_least = np.full(len(queries), np.iinfo(np.int32).min, np.int32)
    if place >= 0:
        at_least = _lowered(np.partition(maxima, place, axis=1)[:, place], 2 * _ERROR[rough.dtype], scores.itemsize)
    return _search(vectors[:size], queries, scores, maxima, at_least, n)


def _lowered(keys: np.ndarray, margin: float, width: int) -> np.ndarray:
    """Return the keys of scores that are lower by a margin, or a little lower still; keys are of `width` bytes."""
    unused = 32 - 8 * width
    scores = _as_key(keys << unused, np.int32(31)).view(np.float32) - np.float32(margin)
    lowered: np.ndarray = _as_key(scores.view(np.int32), np.int32(31)) >> unused
    return lowered


def _as_key(bits: np.ndarray, sign: np.int32) -> np.ndarray:
    """Return integers in the order of the numbers whose bits these are, or the bits whose key these are."""
    keys: np.ndarray = bits ^ (bits >> sign & np.int32(0x7FFFFFFF))
    return keys


@compiled
def _group_maxima(scores: np.ndarray) -> np.ndarray:
    """Return the key of the highest score of each group, given the bits of all, `(B, N)` to `(B, N / GROUP)`."""
    users, padded = scores.shape
    maxima = np.zeros((users, padded // GROUP), np.int32)
    sign = 8 * scores.itemsize - 1
    mask = (1 << sign) - 1
    for user in range(users):
        for group in range(padded // GROUP):
            best = np.int32(-(1 << 31))
            for row in range(group * GROUP, (group + 1) * GROUP):
                bits = np.int32(scores[user, row])
                best = max(best, np.int32(bits ^ (bits >> sign & mask)))
            maxima[user, group] = best
    return maxima


@compiled
def _search(
    vectors: np.ndarray,
    queries: np.ndarray,
    scores: np.ndarray,
    maxima: np.ndarray,
    at_least: np.ndarray,
    n: int,
) -> np.ndarray:
    """Return the n best rows of each query among those whose rough score is high enough.

    Parameters
    ----------
    scores
        The bits of all rough scores, `(B, N)`.
    maxima
        The key of the highest of each group, `(B, N / GROUP)`.
    at_least
        What the key of a rough score has to be, `(B,)`.
    """
    users, padded = scores.shape
    found = np.zeros((users, n), np.int64)
    rows, exact = np.zeros(padded, np.int64), np.zeros(padded, np.float32)
    sign = 8 * scores.itemsize - 1
    mask = (1 << sign) - 1
    for user in range(users):
        candidates = 0
        for group in range(maxima.shape[1]):
            if maxima[user, group] < at_least[user]:
                continue
            for row in range(group * GROUP, min(len(vectors), (group + 1) * GROUP)):
                bits = np.int32(scores[user, row])
                if bits ^ (bits >> sign & mask) >= at_least[user]:
                    rows[candidates] = row
                    exact[candidates] = dot(vectors[row], queries[user])
                    candidates += 1
        least = np.partition(exact[:candidates], candidates - n)[candidates - n]
        taken = 0
        for candidate in range(candidates):
            if exact[candidate] > least:
                found[user, taken] = rows[candidate]
                taken += 1
        for candidate in range(candidates):  # of equals the first ones
            if taken < n and exact[candidate] == least:
                found[user, taken] = rows[candidate]
                taken += 1
    return found


@cache
def _fastest() -> torch.dtype:
    """Return the type in which this processor multiplies a table fastest; with each one the same rows are found."""
    times_s = {dtype: _time_s(torch.ones(4096, 64, dtype=dtype)) for dtype in _ERROR}
    return min(times_s, key=times_s.__getitem__)


def _time_s(table: Tensor) -> float:
    queries, best_s = table[:8].clone(), float("inf")
    for _ in range(5):
        started_s = time.perf_counter()
        queries @ table.T
        best_s = min(best_s, time.perf_counter() - started_s)
    return best_s
