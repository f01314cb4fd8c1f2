"""Channels that search all items for those with the highest product with a user's vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.item_vectors import ItemVectors, coded, product, products_of
from streamrec.model.retrievers.nearest import nearest
from streamrec.model.retrievers.retriever import Candidates, Found, Items, Retrieval, Retriever, Users
from streamrec.model.tables.vocabulary import grown
from streamrec.model.tensors import Arrays

NEAREST = 128
"""Minimum number of candidates per user."""

PUBLISHED_DISTANCE = 0.03
"""Minimum distance from the published vector for sending it again, in norms of the longest ones."""

_NEAR = -1.0
"""An item whose second feature is lower is not listed for what the channel says, if anything else explains it."""


class Aims(NamedTuple):
    """The vectors of users that items are compared with.

    Attributes
    ----------
    directions
        Unit vectors, zero for unknown users, `(B, D)`, float32.
    lengths
        Factors on their products with items, `(B,)`, float32.
    """

    directions: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Aims:
        """Split vectors, `(B, D)`."""
        lengths = np.linalg.norm(vectors, axis=1)
        directions = vectors / np.where(lengths > 0, lengths, 1.0)[:, None]
        return cls(directions.astype(np.float32), lengths.astype(np.float32))


class SearchedRetriever(Retriever):
    """An exact search over all items; known users only.

    Its first three features are an item's score, its distance from the best one, and whether the user has a vector.

    Attributes
    ----------
    strength, strength_of_far
        How well it explains items near the user's vector, and any other item of a user with a vector, 0 to 1.
    """

    strength: ClassVar[float]
    strength_of_far: ClassVar[float]

    def vectors(self, items: Items) -> ItemVectors:
        """Return the vectors of items."""
        raise NotImplementedError

    def aims(self, users: Users) -> Aims:
        """Return the vectors of users."""
        raise NotImplementedError

    def find(self, items: Items, users: Users) -> Found:
        """Return the nearest rows of users with a vector; its notes are the :class:`Aims`."""
        aims = self.aims(users)
        is_known = aims.directions.any(axis=1)
        if not is_known.any():
            return Found(np.zeros(0, np.int64), np.zeros(len(users.ends), np.int64), aims)
        rows = nearest(self.vectors(items), items.size, aims.directions[is_known], max(users.k, NEAREST))
        return Found(rows.ravel(), rows.shape[1] * np.cumsum(is_known), aims)

    def describe(self, retrieval: Retrieval) -> None:
        """Add the score of each candidate for its user, and how far it is below the best one's."""
        self.products(retrieval, np.zeros((len(retrieval.users.own), 0), np.int64))

    def products(self, retrieval: Retrieval, others: np.ndarray) -> np.ndarray:
        """Describe the candidates, and return their products with other rows of each user.

        Parameters
        ----------
        others
            Rows, 0 for padding at the end, `(B, Q)`.

        Returns
        -------
        np.ndarray
            `(M, Q)`; 0 for padding.
        """
        vectors, aims, candidates = self.vectors(retrieval.items), retrieval.found.notes, retrieval.candidates
        counts = np.count_nonzero(others, axis=1)
        scores, products = products_of(
            vectors, candidates.rows, candidates.starts, aims.directions, vectors.take(others), counts
        )
        _describe(scores, aims, candidates, retrieval.features)
        return products

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain items near the user's vector, and with less strength any item of a user with a vector."""
        _, below_best, is_known = retrieval.features[:3, chosen]
        strength = np.where(below_best >= _NEAR, np.float32(self.strength), np.float32(self.strength_of_far))
        return np.asarray(is_known * strength)

    def leads(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Return the nearest of the user's own items."""
        rows, users = retrieval.candidates.rows[chosen], retrieval.candidates.users[chosen]
        vectors, own = self.vectors(retrieval.items), retrieval.users.own
        nearest_own: np.ndarray = _nearest_own(vectors, rows, users, own, vectors.take(own))
        return nearest_own


def followed(
    vectors: ItemVectors, name: str, changes: Mapping[str, np.ndarray], size: int, *, in_place: bool
) -> ItemVectors:
    """Return a channel's own vectors in the next version, with those that :class:`Publication` named."""
    larger = vectors.grown(size)
    following = larger if in_place or larger is not vectors else larger.copied()
    return following.put(changes[f"{name}.rows"], *coded(changes[f"{name}.vectors"]))


class Publication:
    """What readers know of a trainer's vectors: 2 bytes per entry.

    Parameters
    ----------
    name
        Name of the channel.
    dim
        Width of the vectors.
    """

    def __init__(self, name: str, dim: int) -> None:
        self._name = name
        self._sent = np.zeros((1024, dim), np.float16)
        self._touched: set[int] = set()
        """Rows that may have moved since the last version."""

    def touch(self, rows: np.ndarray) -> None:
        """Mark rows that may have moved."""
        self._touched.update(rows.tolist())

    def changes(self, vectors_of: Callable[[np.ndarray], np.ndarray], rows: int, *, everything: bool) -> Arrays:
        """Return the rows that moved far since they were sent, or all as they were sent last.

        Rows that moved little wait for their next step.

        Parameters
        ----------
        vectors_of
            Returns the vectors of rows.
        rows
            Number of rows, including padding.
        """
        self._sent = grown(self._sent, rows)
        touched = np.array(sorted(self._touched), np.int64)
        now = vectors_of(touched)
        moved = ~(np.linalg.norm(now - self._sent[touched], axis=1) <= PUBLISHED_DISTANCE)  # NaN is sent, and detected
        self._sent[touched[moved]] = now[moved]
        self._touched = set()
        owners = np.arange(1, rows) if everything else touched[moved]
        return {f"{self._name}.rows": owners, f"{self._name}.vectors": self._sent[owners]}

    def state(self) -> Arrays:
        """Return what readers know, for a checkpoint."""
        return {"sent": self._sent.copy(), "touched": np.array(sorted(self._touched), np.int64)}

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        self._sent, self._touched = state["sent"].copy(), set(state["touched"].tolist())


@compiled
def _describe(products: np.ndarray, aims: Aims, candidates: Candidates, features: np.ndarray) -> None:
    starts = candidates.starts
    for user in range(len(aims.lengths)):
        if not aims.directions[user].any():
            continue
        best = np.float32(-np.inf)
        for index in range(starts[user], starts[user + 1]):
            score = products[index] * aims.lengths[user]
            features[0, index] = score
            best = max(best, score)
        for index in range(starts[user], starts[user + 1]):
            score = features[0, index]
            features[0, index] = score * np.float32(2.0)
            features[1, index] = (score - best) * np.float32(4.0)
            features[2, index] = 1.0


@compiled
def _nearest_own(
    vectors: ItemVectors, rows: np.ndarray, owners: np.ndarray, own: np.ndarray, own_vectors: np.ndarray
) -> np.ndarray:
    """Return for each row the nearest of its owner's items, 0 for an owner without any, `(n,)`."""
    nearest_rows = np.zeros(len(rows), np.int64)
    for index in range(len(rows)):
        best = np.float32(-np.inf)
        codes, step = vectors.codes[rows[index]], vectors.steps[rows[index]]
        for place in range(own.shape[1]):
            other = own[owners[index], place]
            if other > 0:
                score = product(codes, own_vectors[owners[index], place]) * step
                if score > best:
                    best, nearest_rows[index] = score, other
    return nearest_rows
