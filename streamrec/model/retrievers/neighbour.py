"""The channel of co-visitation: the items that follow a user's latest items in other users' sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from streamrec.model.retrievers.item_lists import Fading, ItemLists, published
from streamrec.model.retrievers.retriever import OWN_ITEMS, Found, Items, Lesson, Retrieval, Retriever, Teacher, Users
from streamrec.model.retrievers.weighed import Notes, describe
from streamrec.model.tables.covisitation import LOOK_BACK, Covisitation
from streamrec.model.tables.neighbour_lists import DISTANCE_DECAY, OTHER_SESSION_WEIGHT
from streamrec.model.tensors import Arrays

PUBLISHED_NEIGHBOURS = 32
"""Maximum number of neighbours of an item in a version."""

NEIGHBOURS_OF = OWN_ITEMS
"""Number of the latest distinct items whose neighbours are candidates."""

MAX_CANDIDATES = 48
"""Maximum number of candidates per user."""

_STRENGTH = 1.0


_FADING = Fading(NEIGHBOURS_OF, DISTANCE_DECAY, OTHER_SESSION_WEIGHT)


class NeighbourTeacher:
    """Counts pairs of items in users' sequences."""

    def __init__(self) -> None:
        self.pairs = Covisitation()
        self._changed: set[int] = set()
        """Rows whose neighbours changed since the last version."""

    def learn(self, lesson: Lesson) -> None:
        """Pair each new event with the ones before it."""
        users = np.searchsorted(lesson.ends, lesson.new, side="right")
        begins = np.concatenate([np.zeros(1, np.int64), lesson.ends])[users]
        for index, begin, share in zip(lesson.new.tolist(), begins.tolist(), lesson.shares.tolist(), strict=True):
            first = max(begin, index - LOOK_BACK)
            before = zip(lesson.rows[first:index].tolist(), lesson.times_ms[first:index].tolist(), strict=True)
            row, time_ms = int(lesson.rows[index]), int(lesson.times_ms[index])
            self._changed.update(self.pairs.add([each for each in before if each[0]], row, time_ms, share))

    def forget(self, row: int) -> None:
        """Remove a row from all lists."""
        self._changed.update(self.pairs.clear(row))
        self._changed.add(row)

    def changes(self, rows: int, *, everything: bool) -> Arrays:
        """Return the strongest neighbours of changed rows; weights sum to 1 by row."""
        owners = np.arange(1, rows) if everything else np.array(sorted(self._changed), np.int64)
        self._changed = set()
        lengths, others, weights = self.pairs.strongest(owners, PUBLISHED_NEIGHBOURS)
        of = np.repeat(np.arange(len(owners)), lengths)
        # only the ratios between an item's neighbours matter
        totals = np.bincount(of, weights, minlength=len(owners))
        totals[totals == 0] = 1.0  # after years without events
        return published("neighbours", owners, lengths, others, weights / totals[of])

    def state(self) -> Arrays:
        """Return all pairs."""
        return self.pairs.state()

    def load(self, state: Arrays) -> None:
        """Restore all pairs."""
        if state:
            self.pairs.load(state)


class NeighbourRetriever(Retriever):
    """The neighbours of the user's latest items.

    Attributes
    ----------
    lists
        Neighbours of each item, with weights that sum to 1.
    """

    name = "neighbour"
    features = "neighbour", "neighbour_of_last", "is_neighbour"
    prior: ClassVar[Mapping[str, float]] = {"neighbour": 1.0, "is_neighbour": 0.5}

    def __init__(self) -> None:
        self.lists = ItemLists.empty()

    @classmethod
    def teacher(cls, _seed: int, /) -> Teacher:
        """Return a counter of pairs."""
        return NeighbourTeacher()

    def follow(self, earlier: Self, items: Items, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        """Take over the lists of the earlier version, and replace those of the changed rows."""
        self.lists = earlier.lists.followed("neighbours", changes, items.size, in_place=in_place)

    def find(self, items: Items, users: Users) -> Found:
        """Return the strongest neighbours of each user's latest items."""
        near, of_last = self.lists.gathered(users, items.size, _FADING)
        return near.strongest(MAX_CANDIDATES, of_last)

    def describe(self, retrieval: Retrieval) -> None:
        """Add the weight of each neighbour, and the part of it from the last item."""
        notes: Notes = retrieval.found.notes
        assert notes.of_last is not None
        places = notes.places(retrieval.candidates)
        describe(retrieval.features[0], places, notes.weighed.weights)
        describe(retrieval.features[1], places, notes.of_last)
        retrieval.features[2, places[places >= 0]] = 1.0

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain every neighbour."""
        return np.float32(_STRENGTH) * np.asarray(retrieval.features[2, chosen] > 0)

    def leads(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Return the user's item with the candidate as its strongest neighbour."""
        notes: Notes = retrieval.found.notes
        return notes.leads(retrieval.candidates, chosen)
