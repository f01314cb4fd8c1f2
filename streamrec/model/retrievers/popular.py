"""The channel of popular items: the same for all users."""

from __future__ import annotations

import numpy as np

from streamrec.model.retrievers.retriever import Found, Items, Retrieval, Retriever, Users

PER_HALF_LIFE = 64
"""Number of the most popular items for each half-life of popularity."""

_STRENGTH = 0.4


class PopularRetriever(Retriever):
    """The most popular items for every half-life. Their popularity itself is known of every candidate."""

    name = "popular"

    def __init__(self) -> None:
        self._rows: np.ndarray | None = None

    def rows(self, items: Items) -> np.ndarray:
        """Return the distinct most popular rows over all half-lives, computed once per version."""
        if self._rows is None:
            n = min(PER_HALF_LIFE, items.size)
            top = np.unique(np.argpartition(-items.counts[: items.size], n - 1, axis=0)[:n])
            self._rows = top[items.last_ms[top] > 0]
        return self._rows

    def find(self, items: Items, users: Users) -> Found:
        """Return the same rows for each user."""
        rows = self.rows(items)
        return Found(np.tile(rows, len(users.ends)), len(rows) * np.arange(1, len(users.ends) + 1))

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain the most popular rows."""
        is_popular = np.isin(retrieval.candidates.rows[chosen], self.rows(retrieval.items))
        return np.float32(_STRENGTH) * is_popular
