"""The channel of matrix factorization: items whose factors fit the one that follows from the user's latest items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.retrievers.retriever import Items, Lesson, Teacher, Users
from streamrec.model.retrievers.searched import Aims, Publication, SearchedRetriever, followed
from streamrec.model.tables.covisitation import LEAST_SHARE
from streamrec.model.tables.item_factors import DIM, LARGEST, LOOK_BACK, ItemFactors, folded, inverse
from streamrec.model.tables.rows_before import rows_before
from streamrec.model.tensors import Arrays, below, prefixed


class FactorsTeacher:
    """Moves the factor of each event's item; readers get factors divided by the largest norm.

    Parameters
    ----------
    seed
        Random seed of initial factors.
    """

    def __init__(self, seed: int) -> None:
        self._items = ItemFactors(seed)
        self._publication = Publication("factors", DIM)

    def learn(self, lesson: Lesson) -> None:
        """Learn the new events on items with a row."""
        new = lesson.new[(lesson.rows[lesson.new] > 0) & (lesson.shares >= LEAST_SHARE)]
        self._items.learn(rows_before(lesson.ends, lesson.rows, new, LOOK_BACK), lesson.rows[new])
        self._publication.touch(lesson.rows[new])

    def forget(self, row: int) -> None:
        """Clear the factor of a row."""
        self._items.forget(row)
        self._publication.touch(np.array([row]))

    def changes(self, rows: int, *, everything: bool) -> Arrays:
        """Return the factors that moved."""
        return self._publication.changes(self._items.scaled, rows, everything=everything)

    def state(self) -> Arrays:
        """Return factors, and what readers know of them."""
        return {**prefixed("items", self._items.state()), **prefixed("publication", self._publication.state())}

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        if state:
            self._items.load(below("items", state))
            self._publication.load(below("publication", state))


class FactorsRetriever(SearchedRetriever):
    """Products of factors: predictions of 1 for a user's items and of 0 for others.

    Attributes
    ----------
    published
        Factors of items, divided by the largest norm.
    gram
        Sum of the outer products of all of them, `(D, D)`, float64.
    """

    name = "factors"
    features = "factors", "factors_below_best", "has_factors"
    prior: ClassVar[Mapping[str, float]] = {"factors": 0.25}
    strength, strength_of_far = 0.7, 0.15

    def __init__(self) -> None:
        self.published = ItemVectors.empty(DIM)
        self.gram = np.zeros((DIM, DIM))
        self._inverted = inverse(self.gram)

    @classmethod
    def teacher(cls, seed: int, /) -> Teacher:
        """Return a factorization."""
        return FactorsTeacher(seed)

    def follow(self, earlier: Self, items: Items, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        """Take over the factors of the earlier version, and replace those of the changed rows."""
        rows = changes["factors.rows"]
        before = earlier.published.take(rows[rows < len(earlier.published.steps)]).astype(np.float64)
        self.published = followed(earlier.published, self.name, changes, items.size, in_place=in_place)
        now = self.published.take(rows).astype(np.float64)
        self.gram = earlier.gram + now.T @ now - before.T @ before
        self._inverted = inverse(LARGEST**2 * self.gram)

    def vectors(self, items: Items) -> ItemVectors:  # noqa: ARG002  # its own
        """Return the factors of items."""
        return self.published

    def aims(self, users: Users) -> Aims:
        """Return the factors of users, times the largest norm of an item."""
        own = np.where(users.own < len(self.published.steps), users.own, 0)
        return Aims.of(LARGEST * folded(LARGEST * self.published.take(own), own, self._inverted))
