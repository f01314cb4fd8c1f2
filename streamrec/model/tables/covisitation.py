"""Item co-visitation in users' sequences: a bounded, decaying neighbour list per item.

The neighbour methods that still beat most networks on session data (STAN, Garg et al. 2019; VSTAN, Ludewig et al. 2020)
weight a pair by the distance of its two events and by age. Here the same weights are kept per item instead of per
session, so that an event costs a few updates and no sessions need to be stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrec.model.tables import neighbour_lists
from streamrec.model.tables.neighbour_lists import NeighbourLists

LOOK_BACK = 8
"""Number of previous events that an event is paired with: beyond that `DISTANCE_DECAY` makes weights negligible."""

LEAST_SHARE = 1 / 64
"""Minimum share of an event that is paired: others would displace pairs in a full list."""

HALF_LIFE_MS = 7 * 86_400_000.0
_MAX_DOUBLINGS = 32.0


class Neighbours(NamedTuple):
    """Concatenated neighbour lists of several rows.

    Attributes
    ----------
    lengths
        Number of neighbours of each row, `(R,)`.
    others, weights
        Neighbours, best first, and their weights as of `Covisitation.reference_ms`, `(sum of lengths,)`.
    """

    lengths: np.ndarray
    others: np.ndarray
    weights: np.ndarray


class Covisitation:
    """Decayed weights of ordered pairs of rows, at most `MAX_NEIGHBOURS` per row: 1 KiB per row.

    Examples
    --------
    >>> pairs = Covisitation()
    >>> pairs.add([(1, 0), (2, 1_000)], 3, 2_000)
    [2, 1, 3]
    >>> pairs.strongest([2, 3], 1).others.tolist()
    [3, 2]
    """

    def __init__(self) -> None:
        self.reference_ms = 0
        self._lists = NeighbourLists.of(1024)

    def add(self, prefix: Sequence[tuple[int, int]], row: int, time_ms: int, share: float = 1.0) -> list[int]:
        """Pair an event with the previous ones.

        Parameters
        ----------
        prefix
            Row and event time of the user's previous events, oldest first.
        row, time_ms
            The event.
        share
            Weight of the event: a user who alternates between two items makes one pair, not hundreds.

        Returns
        -------
        list of int
            Rows whose lists changed.
        """
        if share < LEAST_SHARE:
            return []
        doublings = (time_ms - self.reference_ms) / HALF_LIFE_MS
        if doublings > _MAX_DOUBLINGS:
            self._move_reference(time_ms)
            doublings = 0.0
        before = np.array(prefix[-LOOK_BACK:], np.int64).reshape(-1, 2)
        self._lists = self._lists.grown(int(max(row, before[:, 0].max(initial=0))) + 1)
        changed: list[int] = neighbour_lists.pair(self._lists, before, row, time_ms, share * 2.0**doublings).tolist()
        return changed

    def strongest(self, rows: Sequence[int] | np.ndarray, n: int) -> Neighbours:
        """Return the strongest neighbours of each row, ties by insertion order."""
        asked = np.asarray(rows, np.int64)
        self._lists = self._lists.grown(int(asked.max(initial=0)) + 1)
        return Neighbours(*neighbour_lists.strongest(self._lists, asked, n))

    def clear(self, row: int) -> list[int]:
        """Remove a row, and return the rows whose lists changed."""
        self._lists = self._lists.grown(row + 1)
        changed: list[int] = neighbour_lists.clear(self._lists, row).tolist()
        return changed

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for a checkpoint."""
        return {"reference_ms": np.array([self.reference_ms]), **neighbour_lists.packed(self._lists)}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        self.reference_ms = int(state["reference_ms"][0])
        self._lists = neighbour_lists.unpacked(state)

    def _move_reference(self, to_ms: int) -> None:
        self._lists.weights[:] *= 2.0 ** (-(to_ms - self.reference_ms) / HALF_LIFE_MS)
        self.reference_ms = to_ms


def warm_up() -> None:
    """Compile the loops, or load them from the cache, in advance."""
    pairs = Covisitation()
    pairs.add([(1, 0)], 2, 1)
    pairs.strongest([1], 1)
    pairs.clear(1)
    pairs.load(pairs.state())
