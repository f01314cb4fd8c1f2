"""Factors of items, updated event by event, and the factors of users that follow from those of their items.

Implicit feedback as in eALS (He et al. 2016, "Fast Matrix Factorization for Online Recommendation with Implicit
Feedback", arXiv 1708.05024): an event is a 1, and everything that did not happen counts as a 0 of little weight, which
the sums of all factors' outer products stand for. There are no rows of users: a user's factor is the ridge regression
on the factors of the user's latest items, as iALS folds in new users (Rendle et al. 2021, arXiv 2110.14037). An event
moves the factor of its own item only, by a gradient step as in ISGD (Vinagre et al. 2014), in a size that falls with
the item's events.
"""

from __future__ import annotations

import numpy as np

from streamrec.model.tables.vocabulary import grown
from streamrec.model.tensors import Arrays

DIM = 64
"""Width of a factor."""

LOOK_BACK = 8
"""Number of a user's latest distinct items that a user's factor follows from."""

LARGEST = 4.0
"""Maximum norm of an item's factor."""

_STEP_DECAY = 0.6
"""Weight of each of a user's items, relative to the next later one."""

_RIDGE = 3.0
_UNOBSERVED = 0.05
"""Weight of an event that did not happen."""

_FIRST_STEP = 0.3
"""Strength of the first factor of an item, in squares of users' entries."""

_INITIAL_STD = 0.1
_LEAST_SHARE = 1e-3
"""Share of each new user in the mean over users, which forgets after a thousand events."""

_TOGETHER = 16
"""Number of events whose users are folded in together, before their items move."""


def inverse(gram: np.ndarray) -> np.ndarray:
    """Return the inverse of what all items add to a user's regression, from the sum of their outer products."""
    return np.linalg.inv(_UNOBSERVED * gram + _RIDGE * np.eye(len(gram)))


def folded(factors: np.ndarray, own: np.ndarray, inverted: np.ndarray) -> np.ndarray:
    """Return the factors of users, zero for those without items, `(B, D)`.

    Parameters
    ----------
    factors
        Of each user's items, zero for padding, `(B, LOOK_BACK, D)`.
    own
        Latest distinct rows of each user, newest first, 0 for padding, `(B, LOOK_BACK)`.
    inverted
        From :func:`inverse`, `(D, D)`.
    """
    roots = np.where(own > 0, _STEP_DECAY ** (0.5 * np.arange(own.shape[1])), 0.0)
    weighed = roots[:, :, None] * factors
    # by Woodbury's identity: the system is as small as the number of items
    projected = weighed @ inverted
    system = projected @ weighed.transpose(0, 2, 1) + np.eye(own.shape[1])
    solved = np.linalg.solve(system, roots[:, :, None])
    return np.asarray((projected.transpose(0, 2, 1) @ solved)[:, :, 0])


class ItemFactors:
    """A factor per row, and what a step needs: 260 bytes per row.

    Parameters
    ----------
    seed
        Random seed of initial factors.

    Attributes
    ----------
    factors
        By row, zero for rows without events, `(capacity, D)`, float32.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.factors = np.zeros((1024, DIM), np.float32)
        self._strengths = np.zeros(1024, np.float32)
        """Sum over events of the mean square of users' entries."""
        self._items = np.zeros((DIM, DIM))
        """Sum of the outer products of all factors."""
        self._users = np.zeros((DIM, DIM))
        """Mean of the outer products of the factors of recent users."""
        self._events = 0

    def learn(self, own: np.ndarray, rows: np.ndarray) -> None:
        """Learn events in order.

        Parameters
        ----------
        own
            Latest distinct rows of each event's user before it, without its own, newest first, 0 for padding,
            `(n, LOOK_BACK)`.
        rows
            Row of each event, `(n,)`.
        """
        self._reserve(int(own.max(initial=0)) + 1)
        self._begin(rows)
        for start in range(0, len(rows), _TOGETHER):
            theirs = own[start : start + _TOGETHER]
            users = folded(self.factors[theirs], theirs, inverse(self._items))
            for user, row in zip(users, rows[start : start + _TOGETHER].tolist(), strict=True):
                if user.any():
                    self._move(row, user)

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Return factors divided by the largest norm, zero for rows without events, `(n, D)`."""
        self._reserve(int(rows.max(initial=0)) + 1)
        return np.asarray(self.factors[rows] / np.float32(LARGEST))

    def forget(self, row: int) -> None:
        """Clear a row."""
        self._reserve(row + 1)
        self._set(row, np.zeros(DIM))
        self._strengths[row] = 0.0

    def state(self) -> Arrays:
        """Return the state as arrays, for a checkpoint."""
        return {
            "factors": self.factors.copy(),
            "strengths": self._strengths.copy(),
            "items": self._items.copy(),
            "users": self._users.copy(),
            "events": np.array([self._events]),
        }

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        self.factors, self._strengths = state["factors"].copy(), state["strengths"].copy()
        self._items, self._users = state["items"].copy(), state["users"].copy()
        self._events = int(state["events"][0])

    def _reserve(self, rows: int) -> None:
        self.factors, self._strengths = grown(self.factors, rows), grown(self._strengths, rows)

    def _begin(self, rows: np.ndarray) -> None:
        """Give rows without a factor a random one."""
        self._reserve(int(rows.max(initial=0)) + 1)
        for row in np.unique(rows[~self.factors[rows].any(axis=1)]).tolist():
            self._set(row, _INITIAL_STD * np.random.default_rng((self._seed, row)).standard_normal(DIM))

    def _move(self, row: int, user: np.ndarray) -> None:
        """Move an item's factor toward a prediction of 1 for this user, and of 0 for the mean user."""
        self._events += 1
        share = max(_LEAST_SHARE, 1.0 / self._events)
        self._users += share * (np.outer(user, user) - self._users)
        self._strengths[row] += user @ user / DIM
        factor = self.factors[row].astype(np.float64)
        gradient = (1.0 - user @ factor) * user - _UNOBSERVED * (self._users @ factor)
        factor += gradient / (self._strengths[row] + _FIRST_STEP)
        self._set(row, factor * min(1.0, LARGEST / np.linalg.norm(factor)))

    def _set(self, row: int, factor: np.ndarray) -> None:
        before = self.factors[row].astype(np.float64)
        self.factors[row] = factor
        now = self.factors[row].astype(np.float64)
        self._items += np.outer(now, now) - np.outer(before, before)
