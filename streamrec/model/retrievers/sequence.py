"""The channel of the sequence model: the items nearest to the vector that it predicts for a user."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.retrievers.likeness import write_likeness
from streamrec.model.retrievers.retriever import Items, Retrieval, Users
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

    def vectors(self, items: Items) -> ItemVectors:
        """Return the vectors of the version."""
        return items.vectors

    def aims(self, users: Users) -> Aims:
        """Return what the network predicts."""
        return Aims(users.hidden, np.ones(len(users.hidden), np.float32))

    def describe(self, retrieval: Retrieval) -> None:
        """Add the cosines of each candidate with the user's vector and, by recency, with the user's own items."""
        own = retrieval.users.own
        write_likeness(self.products(retrieval, own), own, retrieval.candidates, retrieval.features[3:])
