"""The channel of context: what users choose in contexts like that of the user's latest event.

It has no candidates of its own; it describes those of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.retriever import Candidates, Found, Items, Lesson, Retrieval, Retriever, Teacher, Users
from streamrec.model.tables.context_counts import ANY, HALF_LIFE_MS, PLACES, ContextCounts, place_of
from streamrec.model.tensors import Arrays

_SUM_SCALE = np.float32(0.5)


class ContextTeacher:
    """Counts items by context."""

    def __init__(self) -> None:
        self._table = ContextCounts()
        self._changed = np.zeros(PLACES, bool)
        """Places that changed since the last version."""

    def learn(self, lesson: Lesson) -> None:
        """Count the new events that have a context."""
        rows, times_ms = lesson.rows[lesson.new], lesson.times_ms[lesson.new]
        has_row = rows > 0
        changed = self._table.add(lesson.contexts[has_row], rows[has_row], times_ms[has_row], lesson.shares[has_row])
        self._changed[changed] = True

    def forget(self, row: int) -> None:
        """Keep the counts of a row: they have decayed long before it is given to another item."""

    def changes(self, rows: int, *, everything: bool) -> Arrays:  # noqa: ARG002  # the table does not grow with rows
        """Return the changed counts."""
        places = np.flatnonzero(self._table.counts if everything else self._changed)
        self._changed[:] = False
        return {f"context.{name}": value for name, value in self._at(places).items()}

    def state(self) -> Arrays:
        """Return all counts."""
        return self._at(np.flatnonzero(self._table.counts))

    def load(self, state: Arrays) -> None:
        """Restore all counts."""
        if state:
            self._table.reference_ms = int(state["reference_ms"][0])
            self._table.counts[state["places"]] = state["counts"]

    def _at(self, places: np.ndarray) -> Arrays:
        return {
            "places": places.astype(np.int32),
            "counts": self._table.counts[places],
            "reference_ms": np.array([self._table.reference_ms]),
        }


class ContextRetriever(Retriever):
    """How much more often an item is chosen in each context of the user's latest event than anywhere.

    Attributes
    ----------
    table
        Counts of items by context.
    """

    name = "context"
    features = "context", "context_most", "context_least"

    def __init__(self) -> None:
        self.table = ContextCounts()

    @classmethod
    def teacher(cls, _seed: int, /) -> Teacher:
        """Return a counter."""
        return ContextTeacher()

    def follow(self, earlier: Self, items: Items, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:  # noqa: ARG002  # of a fixed size
        """Take over the counts of the earlier version, and replace the changed ones."""
        places, counts = changes["context.places"], changes["context.counts"]
        if not (places.min(initial=0) >= 0 and places.max(initial=0) < PLACES and counts.min(initial=0) >= 0):
            raise ValueError("counts of contexts that cannot be")
        self.table = earlier.table if in_place else earlier.table.copied()
        self.table.refer_to(int(changes["context.reference_ms"][0]))
        self.table.counts[places] = counts

    def find(self, items: Items, users: Users) -> Found:  # noqa: ARG002  # none of any user
        """Return nothing."""
        return Found(np.zeros(0, np.int64), np.zeros(len(users.ends), np.int64))

    def describe(self, retrieval: Retrieval) -> None:
        """Add the logarithms of the ratios: their sum, the highest, and the lowest."""
        users = retrieval.users
        if users.contexts.any():
            decays = 2.0 ** ((self.table.reference_ms - users.now_ms) / HALF_LIFE_MS)
            _describe(self.table.counts, decays, users.contexts, retrieval.candidates, retrieval.features)
            np.log(retrieval.features, out=retrieval.features)
            retrieval.features[0] *= _SUM_SCALE


@compiled
def _describe(
    counts: np.ndarray, decays: np.ndarray, contexts: np.ndarray, candidates: Candidates, features: np.ndarray
) -> None:
    """Write the features as arguments of logarithms."""
    rows, starts = candidates.rows, candidates.starts
    total = counts[place_of(ANY, ANY)]
    features[:] = np.float32(1.0)
    shares = np.zeros(contexts.shape[1])
    for user in range(len(contexts)):
        codes, decay = contexts[user], decays[user]
        keys = (codes != ANY).sum() if total > 0 else 0
        for key in range(keys):
            shares[key] = counts[place_of(codes[key], ANY)] / total
        for at in range(starts[user], starts[user + 1] if keys else starts[user]):
            anywhere = counts[place_of(ANY, rows[at])] * decay
            product, most, least = 1.0, 0.0, np.inf
            for key in range(keys):
                ratio = (counts[place_of(codes[key], rows[at])] * decay + 1.0) / (anywhere * shares[key] + 1.0)
                product, most, least = product * ratio, max(most, ratio), min(least, ratio)
            features[0, at], features[1, at], features[2, at] = product, most, least
