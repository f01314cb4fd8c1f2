"""Exact nearest items: all items are scored roughly, and what can be among the best is scored again exactly.

Rough scores are products of vectors in 8 bits, a quarter of the memory that a search has to read. The error of one is
bounded, so whoever is further than twice the bound below the n-th best cannot be among the n best.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled, compiled_loosely, dot

GROUP = 32
"""Rough scores are looked at in groups of so many, of which most are left out by their best one."""

PIECE = 64
"""Codes are multiplied in pieces of so many, a number that the compiler knows; rows are padded to whole pieces."""

MAX_DIM = 1_024
"""Of wider vectors the sum of an inner product could leave 32 bits."""

_CODE, _QUERY_CODE = 127, 16_383
_ROUNDING = 1e-5
"""What single precision adds to the error of a product of unit vectors, and more."""


class RoughTable(NamedTuple):
    """Vectors in 8 bits, each with a scale of its own.

    Attributes
    ----------
    codes
        `(N, W)`, int8, with W the next multiple of `PIECE`.
    scales
        What a step of a vector's codes is worth, `(N,)`, float32.
    error
        How far a vector here is from what it stands for at most.
    """

    codes: np.ndarray
    scales: np.ndarray
    error: float

    def head(self, size: int) -> RoughTable:
        """Return the first rows."""
        return RoughTable(self.codes[:size], self.scales[:size], self.error)


def rough_table(vectors: np.ndarray, size: int) -> RoughTable:
    """Return the first rows of `(capacity, D)` as :func:`nearest` takes them.

    Raises
    ------
    ValueError
        If vectors are wider than `MAX_DIM`.
    """
    if vectors.shape[1] > MAX_DIM:
        raise ValueError(f"vectors of width {vectors.shape[1]}, yet {MAX_DIM} at most can be searched")
    return RoughTable(*_rounded(vectors[:size]))


def nearest(vectors: np.ndarray, size: int, rough: RoughTable, queries: np.ndarray, n: int) -> np.ndarray:
    """Return the rows whose inner product with each query is highest, exactly.

    Parameters
    ----------
    vectors
        Unit vectors, or zeros, `(capacity, D)`, float32.
    size
        How many of its rows count.
    rough
        The same rows from :func:`rough_table`.
    queries
        Unit vectors, `(B, D)`, float32; what is no number in them counts as 0.
    n
        How many rows.

    Returns
    -------
    np.ndarray
        Rows in no order, `(B, min(n, size))`.
    """
    n = min(n, size)
    rounded = _rounded_queries(queries, rough.codes.shape[1])
    maxima = _group_maxima(rough.head(size), rounded.codes)
    at_least = np.full(len(queries), -np.inf, np.float32)
    if n <= maxima.shape[1]:
        # the n-th best score is no lower than the n-th best of the groups' best ones
        place = maxima.shape[1] - n
        margin = 2.0 * (rough.error + (1.0 + rough.error) * rounded.errors + _ROUNDING) / rounded.scales
        at_least = (np.partition(maxima, place, axis=1)[:, place] - margin).astype(np.float32)
    return _search(vectors[:size], rough, rounded, maxima, at_least, n)


class _Queries(NamedTuple):
    """Queries as they are, `(B, D)`, their codes, `(B, W)`, what a step is worth and how far they are off, `(B,)`."""

    vectors: np.ndarray
    codes: np.ndarray
    scales: np.ndarray
    errors: np.ndarray


def _rounded_queries(queries: np.ndarray, width: int) -> _Queries:
    queries = np.nan_to_num(queries, posinf=0.0, neginf=0.0)
    scales = np.abs(queries).max(axis=1, initial=1e-20) / np.float32(_QUERY_CODE)
    steps = np.rint(queries / scales[:, None])
    codes = np.zeros((len(queries), width), np.int16)
    codes[:, : queries.shape[1]] = steps
    return _Queries(queries, codes, scales, np.linalg.norm(queries - steps * scales[:, None], axis=1))


@compiled
def _rounded(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the codes of vectors, their scales, and the largest distance between one and what its codes stand for."""
    rows, dim = vectors.shape
    codes, scales = np.zeros((rows, -(-dim // PIECE) * PIECE), np.int8), np.zeros(rows, np.float32)
    largest = np.float32(0.0)
    for row in range(rows):
        scale = _greatest(vectors[row]) / np.float32(_CODE)
        if scale > 0.0:
            scales[row] = scale
            largest = max(largest, _round(vectors[row], scale, codes[row]))
    return codes, scales, np.sqrt(largest)


@compiled_loosely
def _greatest(vector: np.ndarray) -> np.float32:
    greatest = np.float32(0.0)
    for value in vector:
        greatest = max(greatest, abs(value))
    return greatest


@compiled_loosely
def _round(vector: np.ndarray, scale: np.float32, codes: np.ndarray) -> np.float32:
    """Write the codes of a vector, and return the square of its distance from what they stand for."""
    per_step = np.float32(1.0) / scale
    squares = np.float32(0.0)
    for column in range(len(vector)):
        code = np.rint(vector[column] * per_step)
        codes[column] = np.int8(np.int32(code))
        off = vector[column] - code * scale
        squares += off * off
    return squares


@compiled
def _product(one: np.ndarray, other: np.ndarray) -> np.int32:
    """Return the inner product of two rows of codes."""
    total = _product_of_piece(one[:PIECE], other[:PIECE])
    for start in range(PIECE, len(other), PIECE):
        total = np.int32(total + _product_of_piece(one[start : start + PIECE], other[start : start + PIECE]))
    return total


@compiled
def _product_of_piece(one: np.ndarray, other: np.ndarray) -> np.int32:
    total = np.int32(0)
    for column in range(PIECE):
        # kept in 32 bits, of which the processor adds many at once
        total = np.int32(total + np.int32(np.int32(one[column]) * np.int32(other[column])))
    return total


@compiled
def _group_maxima(rough: RoughTable, queries: np.ndarray) -> np.ndarray:
    """Return the highest rough score of each group for the codes of queries, in steps of those, `(B, N / GROUP)`."""
    size = len(rough.codes)
    maxima = np.full((len(queries), -(-size // GROUP)), -np.inf, np.float32)
    for group in range(maxima.shape[1]):
        for user in range(len(queries)):
            best = np.float32(-np.inf)
            for row in range(group * GROUP, min(size, (group + 1) * GROUP)):
                best = max(best, np.float32(_product(rough.codes[row], queries[user])) * rough.scales[row])
            maxima[user, group] = best
    return maxima


@compiled
def _search(
    vectors: np.ndarray, rough: RoughTable, queries: _Queries, maxima: np.ndarray, at_least: np.ndarray, n: int
) -> np.ndarray:
    """Return the n best rows of each query among those whose rough score is high enough.

    Parameters
    ----------
    maxima
        From :func:`_group_maxima`, `(B, N / GROUP)`.
    at_least
        What a rough score has to be, `(B,)`.
    """
    size = len(vectors)
    found = np.zeros((len(at_least), n), np.int64)
    rows, exact = np.zeros(size, np.int64), np.zeros(size, np.float32)
    for user in range(len(at_least)):
        candidates = 0
        for group in range(maxima.shape[1]):
            if maxima[user, group] < at_least[user]:
                continue
            for row in range(group * GROUP, min(size, (group + 1) * GROUP)):
                score = np.float32(_product(rough.codes[row], queries.codes[user])) * rough.scales[row]
                if score >= at_least[user]:
                    rows[candidates] = row
                    exact[candidates] = dot(vectors[row], queries.vectors[user])
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
