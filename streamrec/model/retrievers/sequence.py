"""The channel of the sequence model: the items nearest to the vector that it predicts for a user."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamrec.model.retrievers.nearest import RoughTable
from streamrec.model.retrievers.retriever import Items, Users
from streamrec.model.retrievers.searched import Aims, SearchedRetriever


class SequenceRetriever(SearchedRetriever):
    """Cosine of the vectors of items and users.

    The network and the vectors are trained by :class:`~streamrec.model.network.learner.Learner`.
    """

    name = "model"
    features = "cosine", "cosine_below_best", "knows_user"
    prior: ClassVar = {"cosine_below_best": 0.5}
    strength, strength_of_far = 0.8, 0.2

    def table(self, items: Items) -> tuple[np.ndarray, RoughTable]:
        """Return the vectors of the version."""
        return items.vectors[: items.size], items.rough.head(items.size)

    def aims(self, users: Users) -> Aims:
        """Return what the network predicts."""
        return Aims(users.hidden, np.ones(len(users.hidden), np.float32))
