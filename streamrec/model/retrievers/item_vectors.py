"""The vectors of items in a version, in bytes: the same codes by row, and in blocks for the search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled, compiled_loosely, dot
from streamrec.model.retrievers.byte_products import BLOCK_VECTORS, COLUMNS, OFFSET
from streamrec.model.tables.vocabulary import grown

LARGEST_CODE = 63
"""Codes have 7 bits: without VNNI, CPUs add two products of bytes in 16 bits, which must not overflow."""


class ItemVectors(NamedTuple):
    """Vectors of a norm of 1 at most, a code per entry and a quantization step per vector: 132 bytes for 64 entries.

    Attributes
    ----------
    codes
        By row, `(capacity, D)`, int8.
    steps
        By row; zero for a row without a vector, `(capacity,)`, float32.
    blocks
        The codes as :func:`~streamrec.model.retrievers.byte_products.products` takes them,
        `(capacity / 16, D / 4, 16, 4)`, rounded up, uint8.

    Examples
    --------
    >>> vectors = ItemVectors.of(np.array([[0.6, -0.8, 0.0], [0.0, 0.0, 0.0]], np.float32))
    >>> vectors.codes.tolist(), vectors.take(0).astype(float).round(2).tolist()
    ([[47, -63, 0], [0, 0, 0]], [0.6, -0.8, 0.0])
    """

    codes: np.ndarray
    steps: np.ndarray
    blocks: np.ndarray

    @classmethod
    def empty(cls, dim: int, rows: int = 1) -> ItemVectors:
        """Return rows without vectors."""
        blocks = np.full((-(-rows // BLOCK_VECTORS), -(-dim // COLUMNS), BLOCK_VECTORS, COLUMNS), OFFSET, np.uint8)
        return cls(np.zeros((rows, dim), np.int8), np.zeros(rows, np.float32), blocks)

    @classmethod
    def of(cls, vectors: np.ndarray) -> ItemVectors:
        """Encode vectors, `(N, D)`, float32."""
        return cls.empty(vectors.shape[1], len(vectors)).put(np.arange(len(vectors)), *coded(vectors))

    @property
    def dim(self) -> int:
        """Width."""
        return int(self.codes.shape[1])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of rows, `(..., D)`, float32."""
        taken: np.ndarray = self.codes[rows] * self.steps[rows][..., None]
        return taken

    def head(self, size: int) -> ItemVectors:
        """Return the first rows, not copied."""
        return ItemVectors(self.codes[:size], self.steps[:size], self.blocks[: -(-size // BLOCK_VECTORS)])

    def grown(self, rows: int) -> ItemVectors:
        """Return vectors with capacity for this many rows: themselves, or a copy."""
        codes = grown(self.codes, rows)
        if codes is self.codes:
            return self
        larger = ItemVectors.empty(self.dim, len(codes))
        larger.steps[: len(self.steps)] = self.steps
        larger.blocks[: len(self.blocks)] = self.blocks
        return larger._replace(codes=codes)

    def copied(self) -> ItemVectors:
        """Return a copy."""
        return ItemVectors(self.codes.copy(), self.steps.copy(), self.blocks.copy())

    def put(self, rows: np.ndarray, codes: np.ndarray, steps: np.ndarray) -> ItemVectors:
        """Replace the vectors of distinct rows, in place, and return all.

        Raises
        ------
        IndexError
            If there are no such rows.
        ValueError
            If there are codes beyond the largest.
        """
        if rows.min(initial=0) < 0 or rows.max(initial=-1) >= len(self.codes):
            raise IndexError(f"vectors of rows that are not among {len(self.codes)}")
        if codes.dtype != np.int8 or codes.min(initial=0) < -LARGEST_CODE or codes.max(initial=0) > LARGEST_CODE:
            raise ValueError(f"codes of vectors must be integers up to {LARGEST_CODE}")
        self.codes[rows], self.steps[rows] = codes, steps
        _arrange(codes, rows, self.blocks)
        return self

    def clear(self, rows: np.ndarray) -> None:
        """Remove the vectors of rows, in place."""
        self.put(rows, np.zeros((len(rows), self.dim), np.int8), np.zeros(len(rows), np.float32))


def coded(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes, `(N, D)`, int8, and quantization steps, `(N,)`, float32, of vectors; the step of NaN is NaN."""
    codes, steps = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
    _encode(np.ascontiguousarray(vectors, np.float32), codes, steps)
    return codes, steps


@compiled
def _encode(vectors: np.ndarray, codes: np.ndarray, steps: np.ndarray) -> None:
    for row in range(len(vectors)):
        largest = np.float32(0.0)
        for column in range(vectors.shape[1]):
            size = abs(vectors[row, column])
            largest = size if not size <= largest else largest  # NaN stays
        steps[row] = largest / np.float32(LARGEST_CODE)
        per_step = np.float32(1.0) / steps[row] if steps[row] > 0 and np.isfinite(largest) else np.float32(0.0)
        for column in range(vectors.shape[1]):
            codes[row, column] = np.int8(np.rint(vectors[row, column] * per_step)) if per_step > 0 else np.int8(0)


@compiled
def _arrange(codes: np.ndarray, rows: np.ndarray, blocks: np.ndarray) -> None:
    for index in range(len(rows)):
        block, place = rows[index] // BLOCK_VECTORS, rows[index] % BLOCK_VECTORS
        for column in range(codes.shape[1]):
            blocks[block, column // COLUMNS, place, column % COLUMNS] = np.uint8(codes[index, column] + OFFSET)


@compiled_loosely
def product(codes: np.ndarray, vector: np.ndarray) -> np.float32:
    """Return the inner product of codes, `(D,)`, int8, and a vector, `(D,)`, float32."""
    total = np.float32(0.0)
    for column in range(len(vector)):
        total += np.float32(codes[column]) * vector[column]
    return total


@compiled
def products_of(
    vectors: ItemVectors,
    rows: np.ndarray,
    starts: np.ndarray,
    directions: np.ndarray,
    others: np.ndarray,
    counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the products of each user's rows with the user's direction, `(M,)`, and with other vectors, `(M, Q)`.

    Parameters
    ----------
    rows, starts
        Rows, ascending by user, `(M,)`, and where those of each user begin, `(B + 1,)`.
    directions
        A vector of each user, `(B, D)`, float32.
    others, counts
        Other vectors of each user, `(B, Q, D)`, float32, and their number, `(B,)`; products beyond it are 0.
    """
    firsts = np.zeros(len(rows), np.float32)
    products = np.zeros((len(rows), others.shape[1]), np.float32)
    vector = np.empty(directions.shape[1], np.float32)
    for user in range(len(directions)):
        for at in range(starts[user], starts[user + 1]):
            row = rows[at]
            for column in range(len(vector)):
                vector[column] = np.float32(vectors.codes[row, column]) * vectors.steps[row]
            firsts[at] = dot(vector, directions[user])
            for query in range(counts[user]):
                products[at, query] = dot(vector, others[user, query])
    return firsts, products
