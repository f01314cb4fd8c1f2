"""How much candidates are like the user's own items, for channels that compare items with each other."""

from __future__ import annotations

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.retriever import Candidates

_FADING = np.float32(0.8)
"""Weight of an own item relative to the next later one."""


@compiled
def write_likeness(cosines: np.ndarray, own: np.ndarray, candidates: Candidates, features: np.ndarray) -> None:
    """Write the cosine of each candidate with the user's last item, the nearest one, and recent ones by recency.

    An item is not compared with itself. Nothing is written for users without other items.

    Parameters
    ----------
    cosines
        Cosine of each candidate with each own item of its user, `(M, OWN_ITEMS)`, float32.
    own
        Rows of the own items of each user, newest first, 0 for padding, `(B, OWN_ITEMS)`.
    features
        The three features, `(3, M)`.
    """
    for at in range(len(candidates.rows)):
        row, user = candidates.rows[at], candidates.users[at]
        compared, weight = 0, np.float32(1.0)
        nearest, total, weights = np.float32(-1.0), np.float32(0.0), np.float32(0.0)
        for place in range(own.shape[1]):
            if own[user, place] == 0:
                break
            weight *= _FADING
            if own[user, place] == row:
                continue
            cosine = cosines[at, place]
            if compared == 0:
                features[0, at] = cosine
            nearest = max(nearest, cosine)
            total += weight * cosine
            weights += weight
            compared += 1
        if compared:
            features[1, at] = nearest
            features[2, at] = total / weights
