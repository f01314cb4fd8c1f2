"""The channel of the sequence model: the items nearest to the vector that it predicts for a user."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamrec.model.compiled import compiled, dot
from streamrec.model.retrievers.nearest import nearest
from streamrec.model.retrievers.retriever import Candidates, Found, Items, Retrieval, Retriever, Users

NEAREST = 128
"""Minimum number of candidates per user."""

_NEAR = -1.0
"""An item whose second feature is lower is not listed for what the model says of it, if anything else explains it."""

_STRENGTH, _STRENGTH_OF_FAR = 0.8, 0.2

_FADING = np.float32(0.8)
"""Weight of an own item relative to the next later one."""


class SequenceRetriever(Retriever):
    """An exact search over all items; known users only.

    The network and the vectors are trained by :class:`~streamrec.model.network.learner.Learner`.
    """

    name = "model"
    features = (
        "cosine",
        "cosine_below_best",
        "knows_user",
        "cosine_to_last",
        "cosine_to_nearest",
        "cosine_to_recent",
    )
    prior: ClassVar = {"cosine_below_best": 0.5}

    def find(self, items: Items, users: Users) -> Found:
        """Return the nearest rows of users with a vector."""
        is_known = users.hidden.any(axis=1)
        if not is_known.any():
            return Found(np.zeros(0, np.int64), np.zeros(len(users.ends), np.int64), is_known)
        vectors, rough = items.vectors[: items.size], items.rough.head(items.size)
        rows = nearest(vectors, rough, users.hidden[is_known], max(users.k, NEAREST))
        return Found(rows.ravel(), rows.shape[1] * np.cumsum(is_known), is_known)

    def describe(self, retrieval: Retrieval) -> None:
        """Add the cosine of each candidate and the vector of its user, and those of it and the user's own items.

        Own items are weighted by recency, as attention over them with fixed weights.
        """
        vectors, hidden, own = retrieval.items.vectors, retrieval.users.hidden, retrieval.users.own
        _describe(vectors, hidden, retrieval.found.notes, retrieval.candidates, retrieval.features)
        _compare(vectors, own, retrieval.candidates, retrieval.features[3:])

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain items near the user's vector, and with less strength any item of a user with a vector."""
        _, below_best, is_known, *_ = retrieval.features[:, chosen]
        strength = np.where(below_best >= _NEAR, np.float32(_STRENGTH), np.float32(_STRENGTH_OF_FAR))
        return np.asarray(is_known * strength)

    def leads(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Return the nearest of the user's own items."""
        rows, users = retrieval.candidates.rows[chosen], retrieval.candidates.users[chosen]
        nearest_own: np.ndarray = _nearest_own(retrieval.items.vectors, rows, users, retrieval.users.own)
        return nearest_own


@compiled
def _describe(
    vectors: np.ndarray, hidden: np.ndarray, is_known: np.ndarray, candidates: Candidates, features: np.ndarray
) -> None:
    rows, starts = candidates.rows, candidates.starts
    for user in range(len(is_known)):
        if not is_known[user]:
            continue
        best = np.float32(-np.inf)
        for index in range(starts[user], starts[user + 1]):
            cosine = dot(vectors[rows[index]], hidden[user])
            features[0, index] = cosine
            best = max(best, cosine)
        for index in range(starts[user], starts[user + 1]):
            cosine = features[0, index]
            features[0, index] = cosine * np.float32(2.0)
            features[1, index] = (cosine - best) * np.float32(4.0)
            features[2, index] = 1.0


@compiled
def _compare(vectors: np.ndarray, own: np.ndarray, candidates: Candidates, features: np.ndarray) -> None:
    """Write the cosines of each candidate with its user's last, nearest and recent other items."""
    rows, starts = candidates.rows, candidates.starts
    for user in range(len(own)):
        for index in range(starts[user], starts[user + 1]):
            compared, weight = 0, np.float32(1.0)
            nearest_own, total, weights = np.float32(-1.0), np.float32(0.0), np.float32(0.0)
            for other in own[user]:
                if other == 0:
                    break
                weight *= _FADING
                if other == rows[index]:
                    continue
                cosine = dot(vectors[rows[index]], vectors[other])
                if compared == 0:
                    features[0, index] = cosine
                nearest_own = max(nearest_own, cosine)
                total += weight * cosine
                weights += weight
                compared += 1
            if compared:
                features[1, index] = nearest_own
                features[2, index] = total / weights


@compiled
def _nearest_own(vectors: np.ndarray, rows: np.ndarray, owners: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return for each row the nearest of its owner's items, 0 for an owner without any, `(n,)`."""
    nearest_rows = np.zeros(len(rows), np.int64)
    for index in range(len(rows)):
        best = np.float32(-np.inf)
        for other in own[owners[index]]:
            if other > 0:
                cosine = dot(vectors[rows[index]], vectors[other])
                if cosine > best:
                    best, nearest_rows[index] = cosine, other
    return nearest_rows
