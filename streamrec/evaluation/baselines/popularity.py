"""Recent popularity, the same for all users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrec.evaluation.baselines.baseline import UNKNOWN, Histories, place_of

HOUR_MS = 3_600_000
HALF_LIVES_MS = np.array([HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS], np.float64)
"""The best one is chosen in hindsight, an advantage over real recommenders."""

_MAX_DOUBLINGS = 500.0
"""Weights have a common reference time, which moves long before a weight leaves the range of a double (2^1023)."""


class DecayedCounts:
    """Decayed counts of rows by half-life of event time.

    Parameters
    ----------
    half_lives_ms
        Half-lives, `(H,)`.
    """

    def __init__(self, half_lives_ms: np.ndarray) -> None:
        self._half_lives_ms = half_lives_ms
        self._counts = np.zeros((len(half_lives_ms), 1_024))
        self._reference_ms = 0.0
        self._size = 0

    @property
    def counts(self) -> np.ndarray:
        """Counts up to a factor per half-life, `(H, rows)`."""
        return self._counts[:, : self._size]

    def clear(self, row: int) -> None:
        """Clear the counts of a row."""
        self._counts[:, row] = 0.0

    def add(self, row: int, event_time_ms: int) -> None:
        """Count an event of a row, which may be the next new one."""
        self._size = max(self._size, row + 1)
        if row == self._counts.shape[1]:
            self._counts = np.pad(self._counts, ((0, 0), (0, row)))
        if (event_time_ms - self._reference_ms) / self._half_lives_ms.min() > _MAX_DOUBLINGS:
            self._counts *= np.exp2((self._reference_ms - event_time_ms) / self._half_lives_ms)[:, None]
            self._reference_ms = float(event_time_ms)
        self._counts[:, row] += np.exp2((event_time_ms - self._reference_ms) / self._half_lives_ms)


class RecentPopularity:
    """Ranks items by decayed counts, excluding a user's seen items.

    It learns every event immediately: no streaming recommender is fresher. It grows with the catalogue, and keeps a
    bounded history per user.

    Parameters
    ----------
    hide_seen
        Whether items of a user's latest events are excluded, as in the compared lists.
    sequence_length
        Number of those events.
    """

    def __init__(self, *, hide_seen: bool, sequence_length: int) -> None:
        self._histories = Histories(hide_seen=hide_seen, sequence_length=sequence_length)
        self._counts = DecayedCounts(HALF_LIVES_MS)

    @property
    def names(self) -> Sequence[str]:
        """One name per half-life."""
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
        """Return the rank of an item in the user's list by half-life, from 0; `UNKNOWN` if it is in none.

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
