"""The yardstick: what was popular of late, the same for everybody."""

from __future__ import annotations

from collections import deque

import numpy as np

HOUR_MS = 3_600_000
HALF_LIVES_MS = np.array([HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS], np.float64)
"""The best of these is chosen in hindsight, which is more than any recommender gets."""

UNKNOWN = 1 << 30
"""Place of an item that is in no list."""

_MAX_DOUBLINGS = 500.0
"""Weights refer to one instant, which moves on long before a weight leaves the range of a double (2^1023)."""


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
        self._hide_seen = hide_seen
        self._sequence_length = sequence_length
        self._row_of: dict[str, int] = {}
        self._weights = np.zeros((len(HALF_LIVES_MS), 1_024))
        self._reference_ms = 0.0
        self._seen: dict[str, deque[int]] = {}

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
        row = self._row_of.get(item_id)
        seen = set(self._seen.get(user_id, ())) if self._hide_seen else set()
        if row is None or row in seen:
            return np.full(len(HALF_LIVES_MS), UNKNOWN)
        known = self._weights[:, : len(self._row_of)]
        own = known[:, row, None]
        # of two items with the same weight the one that was seen first goes first
        ahead: np.ndarray = (known > own).sum(1) + (known[:, :row] == own).sum(1)
        if seen:
            hidden = np.fromiter(seen, np.int64)
            ahead -= ((known[:, hidden] > own) | ((known[:, hidden] == own) & (hidden < row))).sum(1)
        return ahead

    def learn_one(self, user_id: str, item_id: str, event_time_ms: int) -> None:
        """Count an event."""
        row = self._row_of.setdefault(item_id, len(self._row_of))
        if row == self._weights.shape[1]:
            self._weights = np.pad(self._weights, ((0, 0), (0, row)))
        if (event_time_ms - self._reference_ms) / HALF_LIVES_MS[0] > _MAX_DOUBLINGS:
            self._weights *= np.exp2((self._reference_ms - event_time_ms) / HALF_LIVES_MS)[:, None]
            self._reference_ms = float(event_time_ms)
        self._weights[:, row] += np.exp2((event_time_ms - self._reference_ms) / HALF_LIVES_MS)
        self._seen.setdefault(user_id, deque(maxlen=self._sequence_length)).append(row)
