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

SEARCHED_TOGETHER = 32
"""Rough scores are looked at in groups of so many, of which most are left out by their best one."""

_ERROR = {torch.float32: 2.0**-16, torch.bfloat16: 2.0**-7}
"""How far a rough score of unit vectors can be off: both factors and the result are rounded to 8 bits, each by 2^-9 at
most; in single precision the order of additions alone matters."""


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
        scores = torch.from_numpy(queries).to(rough.dtype) @ rough.T
        # a group is every so-many-th row: maxima of whole rows of numbers are fast
        groups = scores.view(len(queries), SEARCHED_TOGETHER, -1)
        maxima, groups = groups.amax(1).float().numpy(), groups.view(_BITS[rough.dtype]).numpy()
    n = min(n, size)
    # the n-th best score is no lower than the n-th best of the groups' best ones, of which padding may be some
    place = maxima.shape[1] - n - (len(rough) - size)
    at_least = np.full(len(queries), -np.inf, np.float32)
    if place >= 0:
        at_least = np.partition(maxima, place, axis=1)[:, place] - np.float32(2 * _ERROR[rough.dtype])
    return _search(vectors, queries, groups, maxima, at_least, size, n)


_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


@compiled
def _search(
    vectors: np.ndarray,
    queries: np.ndarray,
    groups: np.ndarray,
    maxima: np.ndarray,
    at_least: np.ndarray,
    size: int,
    n: int,
) -> np.ndarray:
    """Return the n best rows of each query among those whose rough score is high enough.

    Parameters
    ----------
    groups
        The bits of all rough scores: row `t * G + g` is the member `t` of the group `g`, `(B, T, G)`.
    maxima
        The highest of each group, `(B, G)`.
    at_least
        What a rough score has to be, `(B,)`.
    """
    users, together, count = groups.shape
    found = np.zeros((users, n), np.int64)
    rows, exact = np.zeros(together * count, np.int64), np.zeros(together * count, np.float32)
    bits = np.zeros(1, np.int32)
    shift = 32 - 8 * groups.itemsize
    for user in range(users):
        candidates = 0
        for group in range(count):
            if maxima[user, group] < at_least[user]:
                continue
            for member in range(together):
                row = member * count + group
                bits[0] = np.int32(groups[user, member, group]) << shift
                if row < size and bits.view(np.float32)[0] >= at_least[user]:
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
