"""The channel of the sequence model: the items nearest to the vector that it predicts for a user."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamrec.model.compiled import compiled, dot
from streamrec.model.retrievers.likeness import write_likeness
from streamrec.model.retrievers.nearest import RoughTable
from streamrec.model.retrievers.retriever import Candidates, Items, Retrieval, Users
from streamrec.model.retrievers.searched import Aims, SearchedRetriever


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
        users, candidates = retrieval.users, retrieval.candidates
        cosines = _cosines(retrieval.items.vectors, users.own, candidates)
        write_likeness(cosines, users.own, candidates, retrieval.features[3:])


@compiled
def _cosines(vectors: np.ndarray, own: np.ndarray, candidates: Candidates) -> np.ndarray:
    """Return the cosine of each candidate with each own item of its user, zero for padding, `(M, OWN_ITEMS)`."""
    rows, users = candidates.rows, candidates.users
    cosines = np.zeros((len(rows), own.shape[1]), np.float32)
    for at in range(len(rows)):
        for place in range(own.shape[1]):
            other = own[users[at], place]
            if other == 0:
                break
            cosines[at, place] = dot(vectors[rows[at]], vectors[other])
    return cosines
