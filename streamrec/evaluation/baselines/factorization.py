"""Incremental matrix factorization on positive feedback (ISGD)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrec.evaluation.baselines.baseline import UNKNOWN, Histories, place_of

FACTORS = 16
LEARNING_RATE = 0.1
REGULARIZATION = 0.01
INITIAL_STD = 0.1


class MatrixFactorization:
    """Moves the vectors of user and item towards each other with each event, and ranks by inner product.

    Grows with the users and items of the stream. Unknown users have no list.

    Parameters
    ----------
    hide_seen, sequence_length
        See :class:`~streamrec.evaluation.baselines.popularity.RecentPopularity`.
    seed
        Random seed of initial vectors.

    References
    ----------
    Vinagre, Jorge and Gama, "Fast incremental matrix factorization for recommendation with positive-only feedback",
    UMAP 2014.
    """

    names: Sequence[str] = ("matrix_factorization",)

    def __init__(self, *, hide_seen: bool, sequence_length: int, seed: int) -> None:
        self._histories = Histories(hide_seen=hide_seen, sequence_length=sequence_length)
        self._rng = np.random.default_rng(seed)
        self._users: dict[str, np.ndarray] = {}
        self._items = self._begun(1_024)

    def ranks(self, user_id: str, item_id: str) -> np.ndarray:
        """Return the rank of an item in the user's list, `(1,)`."""
        row, user = self._histories.row_of.get(item_id), self._users.get(user_id)
        hidden = self._histories.hidden(user_id)
        if row is None or user is None or row in hidden:
            return np.array([UNKNOWN])
        return np.array([place_of(row, self._items[: len(self._histories)] @ user, hidden)])

    def learn_one(self, user_id: str, item_id: str, event_time_ms: int) -> None:  # noqa: ARG002  # time is not used
        """Make one gradient step towards 1."""
        row = self._histories.learn_one(user_id, item_id)
        if row == len(self._items):
            self._items = np.concatenate([self._items, self._begun(row)])
        if user_id not in self._users:
            self._users[user_id] = self._begun(1)[0]
        user, item = self._users[user_id], self._items[row].copy()
        missing = 1.0 - float(user @ item)
        self._items[row] += LEARNING_RATE * (missing * user - REGULARIZATION * item)
        user += LEARNING_RATE * (missing * item - REGULARIZATION * user)

    def _begun(self, n: int) -> np.ndarray:
        return self._rng.normal(0.0, INITIAL_STD, (n, FACTORS)).astype(np.float32)
