"""The channel of the sequence model: the items nearest to the vector that it predicts for a user."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamrec.model.compiled import compiled, dot
from streamrec.model.retrievers.nearest import RoughTable
from streamrec.model.retrievers.retriever import Candidates, Items, Retrieval, Users
from streamrec.model.retrievers.searched import Aims, SearchedRetriever

_FADING = np.float32(0.8)
"""Weight of an own item relative to the next later one."""


class SequenceRetriever(SearchedRetriever):
    """Cosine of the vectors of items and users.

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
    strength, strength_of_far = 0.8, 0.2

    def table(self, items: Items) -> tuple[np.ndarray, RoughTable]:
        """Return the vectors of the version."""
        return items.vectors[: items.size], items.rough.head(items.size)

    def aims(self, users: Users) -> Aims:
        """Return what the network predicts."""
        return Aims(users.hidden, np.ones(len(users.hidden), np.float32))

    def describe(self, retrieval: Retrieval) -> None:
        """Add the cosines of each candidate with the user's vector and, by recency, with the user's own items."""
        super().describe(retrieval)
        _compare(retrieval.items.vectors, retrieval.users.own, retrieval.candidates, retrieval.features[3:])


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
