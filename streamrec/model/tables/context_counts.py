"""Decayed counts of items by context: how often users in a context chose an item.

Pairs of a context and an item are hashed into a table of fixed size, like a count sketch with one hash function: few
pairs share a place with another frequent one.
"""

from __future__ import annotations

import numpy as np

from streamrec.domain.event_context import MAX_CONTEXT_KEYS
from streamrec.model.compiled import compiled

PLACES = 1 << 18
"""Size of the table: 1 MiB."""

HALF_LIFE_MS = 6 * 3_600_000.0

ANY = 0
"""Stands for events in any context, and for any item."""

_MAX_DOUBLINGS = 24.0


class ContextCounts:
    """Counts events that have a context, with falling weight.

    Attributes
    ----------
    counts
        By place, as of `reference_ms`, `(PLACES,)`, float32.
    reference_ms
        Time that weights refer to.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(PLACES, np.float32)
        self.reference_ms = 0

    def add(self, codes: np.ndarray, rows: np.ndarray, times_ms: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Count events with weights; return the changed places.

        Parameters
        ----------
        codes
            Codes of each event's context, 0 for padding, `(n, MAX_CONTEXT_KEYS)`.
        rows, times_ms, shares
            Row of the item, time and weight of each event, `(n,)`.
        """
        if not len(rows):
            return np.zeros(0, np.int64)
        newest_ms = int(times_ms.max())
        if (newest_ms - self.reference_ms) / HALF_LIFE_MS > _MAX_DOUBLINGS:
            self.refer_to(newest_ms)
        weights = shares * 2.0 ** ((times_ms - self.reference_ms) / HALF_LIFE_MS)
        changed: np.ndarray = _add(self.counts, codes, rows, weights.astype(np.float32))
        return changed

    def refer_to(self, reference_ms: int) -> None:
        """Move the time that weights refer to, in place."""
        self.counts *= np.float32(2.0 ** ((self.reference_ms - reference_ms) / HALF_LIFE_MS))
        self.reference_ms = reference_ms

    def copied(self) -> ContextCounts:
        """Return a copy."""
        copy = ContextCounts()
        copy.counts, copy.reference_ms = self.counts.copy(), self.reference_ms
        return copy


def padded(codes: tuple[int, ...]) -> np.ndarray:
    """Return codes as an array, `(MAX_CONTEXT_KEYS,)`."""
    return np.array([*codes, *[ANY] * (MAX_CONTEXT_KEYS - len(codes))], np.int64)


@compiled
def place_of(code: int, row: int) -> int:
    """Return the place of a context and an item."""
    return (code * 1_000_003 + row) * 2_654_435_761 >> 13 & PLACES - 1


@compiled
def _add(counts: np.ndarray, codes: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    changed, count = np.zeros(2 * len(rows) * (1 + codes.shape[1]), np.int64), 0
    for event in range(len(rows)):
        if codes[event, 0] == ANY:
            continue
        for column in range(-1, codes.shape[1]):
            code = ANY if column < 0 else codes[event, column]
            if column >= 0 and code == ANY:
                break
            for row in (rows[event], ANY):
                at = place_of(code, row)
                counts[at] += weights[event]
                changed[count] = at
                count += 1
    return changed[:count]


def warm_up() -> None:
    """Compile the loop, or load it from the cache, in advance."""
    one = np.ones(1, np.int64)
    ContextCounts().add(padded((1,))[None], one, one, np.ones(1))
