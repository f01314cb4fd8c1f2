"""A ten-line baseline: popular items in the categories of a user's last clicks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from streamrec.evaluation.baselines.baseline import UNKNOWN, Histories, place_of
from streamrec.evaluation.baselines.popularity import DecayedCounts

ASKED_EVENTS = 12
"""Number of a user's latest events that determine the weights of categories."""

HALF_LIFE_MS = 7 * 24 * 3_600_000.0

NEGLIGIBLE = 1e-9
"""Maximum contribution of popularity alone, a tie-breaker."""


class PopularInCategories:
    """Ranks items by popularity times the share of their category in the user's latest events.

    Parameters
    ----------
    hide_seen, sequence_length
        See :class:`~streamrec.evaluation.baselines.popularity.RecentPopularity`.
    category_of
        Returns the category of an item, an empty string for none; called on its first occurrence.
    """

    names: Sequence[str] = ("popular_in_categories",)

    def __init__(self, *, hide_seen: bool, sequence_length: int, category_of: Mapping[str, str]) -> None:
        self._histories = Histories(hide_seen=hide_seen, sequence_length=sequence_length)
        self._popularity = DecayedCounts(np.array([HALF_LIFE_MS]))
        self._category_of = category_of
        self._numbers: dict[str, int] = {"": 0}
        self._categories = np.zeros(1_024, np.int64)
        """Index of the category by row, 0 for none."""

    def ranks(self, user_id: str, item_id: str) -> np.ndarray:
        """Return the rank of an item in the user's list, from 0; `UNKNOWN` if it is in none.

        Shape
        -----
        returns : (1,) int
        """
        row, hidden = self._histories.row_of.get(item_id), self._histories.hidden(user_id)
        if row is None or row in hidden:
            return np.array([UNKNOWN])
        (popularity,) = self._popularity.counts
        liked = Counter(self._categories[self._histories.newest(user_id)[-ASKED_EVENTS:]].tolist())
        weights = np.full(len(self._numbers), NEGLIGIBLE / max(float(popularity.max()), NEGLIGIBLE))
        for category, events in liked.items():
            if category:
                weights[category] += events
        return np.array([place_of(row, weights[self._categories[: len(popularity)]] * popularity, hidden)])

    def withdraw(self, item_id: str) -> None:
        """Clear the popularity of an item that is no longer available."""
        row = self._histories.row_of.get(item_id)
        if row is not None:
            self._popularity.clear(row)

    def learn_one(self, user_id: str, item_id: str, event_time_ms: int) -> None:
        """Learn an event."""
        row = self._histories.learn_one(user_id, item_id)
        if row == len(self._categories):
            self._categories = np.pad(self._categories, (0, row))
        category = self._category_of.get(item_id, "")
        self._categories[row] = self._numbers.setdefault(category, len(self._numbers))
        self._popularity.add(row, event_time_ms)
