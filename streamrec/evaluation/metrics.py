"""Ranking metrics with one relevant item."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

CUTOFF = 10
LONGER_CUTOFF = 20
NOT_LISTED = 1 << 30
"""Rank of an unlisted item."""

_SMOOTHING = 0.01


def ndcg(ranks: np.ndarray, cutoff: int = CUTOFF) -> np.ndarray:
    """Return the NDCG of each event; rank 0 gives 1.

    Examples
    --------
    >>> ndcg(np.array([0, 2, 10])).tolist()
    [1.0, 0.5, 0.0]
    """
    gains: np.ndarray = np.where(ranks < cutoff, 1.0 / np.log2(np.minimum(ranks, cutoff) + 2.0), 0.0)
    return gains


def reciprocal_rank(ranks: np.ndarray, cutoff: int = CUTOFF) -> np.ndarray:
    """Return the reciprocal rank of each event's item, 0 beyond the cutoff."""
    gains: np.ndarray = np.where(ranks < cutoff, 1.0 / (np.minimum(ranks, cutoff) + 1.0), 0.0)
    return gains


def f1(precision: float, recall: float) -> float:
    """Return the harmonic mean of precision and recall.

    Examples
    --------
    >>> f1(0.1, 1.0)
    0.18181818181818182
    """
    return 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0


def intra_list_distance(vectors: np.ndarray) -> float:
    """Return the mean cosine distance of the pairs of items of a list, 0 to 2, from their unit vectors, `(n, D)`.

    Examples
    --------
    >>> intra_list_distance(np.array([[1.0, 0.0], [0.0, 1.0]]))
    1.0
    """
    wide = vectors.astype(np.float64)
    pairs = np.triu_indices(len(wide), 1)
    return float(1.0 - (wide @ wide.T)[pairs].mean())


def calibration(of_user: np.ndarray, of_list: np.ndarray) -> float:
    """Return the divergence of a list's categories from the user's, 0 if they have the same shares.

    Kullback-Leibler divergence with the list's shares smoothed by 0.01 (Steck 2018, "Calibrated Recommendations").

    Parameters
    ----------
    of_user, of_list
        Category of each of the user's events, and of each item of the list, `(n,)`.

    Examples
    --------
    >>> calibration(np.array([1, 1, 2, 2]), np.array([2, 1]))
    0.0
    """
    categories, counts = np.unique(of_user, return_counts=True)
    wanted = counts / len(of_user)
    given = (of_list[:, None] == categories).mean(axis=0)
    smoothed = (1.0 - _SMOOTHING) * given + _SMOOTHING * wanted
    return float((wanted * np.log(wanted / smoothed)).sum())


@dataclass(slots=True)
class Scores:
    """Scores of events, in order.

    Attributes
    ----------
    names
        Names of the methods: the model first, then the baselines.
    """

    names: list[str]
    _ranks: array[int] = field(default_factory=lambda: array("i"))
    _listed: array[int] = field(default_factory=lambda: array("i"))
    users: array[int] = field(default_factory=lambda: array("i"))
    """Index of each event's user, in order of first occurrence."""
    times_ms: array[int] = field(default_factory=lambda: array("q"))
    is_new: array[int] = field(default_factory=lambda: array("b"))
    """Whether the item had never occurred before."""
    known_items: array[int] = field(default_factory=lambda: array("i"))
    """Number of items that had occurred before."""
    novelty: array[float] = field(default_factory=lambda: array("d"))
    """Mean self-information of the ten items of the model's list, in bits."""

    def __len__(self) -> int:
        """Events that were scored."""
        return len(self.users)

    def add(self, ranks: Iterable[int], listed: list[int]) -> None:
        """Add the rank of the event's item by each method, `NOT_LISTED` if none, and the model's list."""
        self._ranks.extend(ranks)
        self._listed.extend(listed + [-1] * (CUTOFF - len(listed)))

    @property
    def ranks(self) -> np.ndarray:
        """Ranks by event and method, `(events, names)`."""
        return np.frombuffer(self._ranks, np.int32).reshape(len(self), len(self.names))

    @property
    def listed(self) -> np.ndarray:
        """Indices of the items in the model's lists, -1 for none, `(events, CUTOFF)`."""
        return np.frombuffer(self._listed, np.int32).reshape(len(self), CUTOFF)
