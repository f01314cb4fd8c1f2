"""The channel of popular items: the same for all users."""

from __future__ import annotations

import numpy as np

from streamrec.model.retrievers.retriever import Found, Items, Retrieval, Retriever, Users

PER_HALF_LIFE = 24
"""Number of the most popular items for each half-life of popularity."""

_STRENGTH = 0.4


class PopularRetriever(Retriever):
    """The most popular items for every half-life. Their popularity itself is known of every candidate."""

    name = "popular"

    def __init__(self) -> None:
        self._rows: np.ndarray | None = None
        self._is_popular: np.ndarray | None = None

    def rows(self, items: Items) -> np.ndarray:
        """Return the distinct most popular rows over all half-lives, computed once per version."""
        if self._rows is None:
            n = min(PER_HALF_LIFE, items.size)
            top = np.unique(np.argpartition(-items.counts[: items.size], n - 1, axis=0)[:n])
            self._rows = top[items.last_ms[top] > 0]
        return self._rows

    def is_popular(self, items: Items) -> np.ndarray:
        """Return whether each row is one of them, `(size,)`."""
        if self._is_popular is None:
            is_popular = np.zeros(items.size, bool)
            is_popular[self.rows(items)] = True
            self._is_popular = is_popular
        return self._is_popular

    def find(self, items: Items, users: Users) -> Found:
        """Return the same rows for each user."""
        rows = self.rows(items)
        return Found(np.tile(rows, len(users.ends)), len(rows) * np.arange(1, len(users.ends) + 1))

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain the most popular rows."""
        is_popular = self.is_popular(retrieval.items)[retrieval.candidates.rows[chosen]]
        return np.float32(_STRENGTH) * np.asarray(is_popular)
