"""The yardstick: what was popular of late, the same for everybody."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrec.model.evaluation.baselines.baseline import UNKNOWN, Histories, place_of

HOUR_MS = 3_600_000
HALF_LIVES_MS = np.array([HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS], np.float64)
"""The best of these is chosen in hindsight, which is more than any recommender gets."""

_MAX_DOUBLINGS = 500.0
"""Weights refer to one instant, which moves on long before a weight leaves the range of a double (2^1023)."""


class DecayedCounts:
    """Counts of rows that decay with event time, by half-life.

    Parameters
    ----------
    half_lives_ms
        One or several, `(H,)`.
    """

    def __init__(self, half_lives_ms: np.ndarray) -> None:
        self._half_lives_ms = half_lives_ms
        self._counts = np.zeros((len(half_lives_ms), 1_024))
        self._reference_ms = 0.0
        self._size = 0

    @property
    def counts(self) -> np.ndarray:
        """Up to a factor by half-life, `(H, rows)`."""
        return self._counts[:, : self._size]

    def add(self, row: int, event_time_ms: int) -> None:
        """Count an event of a row, which is one of those so far or the next."""
        self._size = max(self._size, row + 1)
        if row == self._counts.shape[1]:
            self._counts = np.pad(self._counts, ((0, 0), (0, row)))
        if (event_time_ms - self._reference_ms) / self._half_lives_ms.min() > _MAX_DOUBLINGS:
            self._counts *= np.exp2((self._reference_ms - event_time_ms) / self._half_lives_ms)[:, None]
            self._reference_ms = float(event_time_ms)
        self._counts[:, row] += np.exp2((event_time_ms - self._reference_ms) / self._half_lives_ms)


class RecentPopularity:
    """Ranks items by counts that decay with event time, and leaves out what a user has seen.

    It knows every event at once: no recommender behind a stream is fresher. Its size is that of the catalogue, and a
    bounded history of each user.

    Parameters
    ----------
    hide_seen
        Whether items of a user's newest events are left out, as in the lists that are compared.
    sequence_length
        How many of a user's newest events those are.
    """

    def __init__(self, *, hide_seen: bool, sequence_length: int) -> None:
        self._histories = Histories(hide_seen=hide_seen, sequence_length=sequence_length)
        self._counts = DecayedCounts(HALF_LIVES_MS)

    @property
    def names(self) -> Sequence[str]:
        """One for each half-life."""
        return [f"popular_{half_life_ms / HOUR_MS:g}h" for half_life_ms in HALF_LIVES_MS]

    def would_hit(self, user_id: str, item_id: str, *, k: int) -> np.ndarray:
        """Return for each half-life whether an item is among the user's k most popular ones.

        Shape
        -----
        returns : (len(HALF_LIVES_MS),) bool
        """
        hits: np.ndarray = self.ranks(user_id, item_id) < k
        return hits

    def ranks(self, user_id: str, item_id: str) -> np.ndarray:
        """Return for each half-life the place of an item in the user's list, 0 is the top; `UNKNOWN` if it is in none.

        Shape
        -----
        returns : (len(HALF_LIVES_MS),) int
        """
        row = self._histories.row_of.get(item_id)
        hidden = self._histories.hidden(user_id)
        if row is None or row in hidden:
            return np.full(len(HALF_LIVES_MS), UNKNOWN)
        return np.array([place_of(row, counts, hidden) for counts in self._counts.counts])

    def learn_one(self, user_id: str, item_id: str, event_time_ms: int) -> None:
        """Count an event."""
        self._counts.add(self._histories.learn_one(user_id, item_id), event_time_ms)
