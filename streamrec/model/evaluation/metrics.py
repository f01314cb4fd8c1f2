"""How good lists were: the usual measures, each over one relevant item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

CUTOFF = 10
NOT_LISTED = 1 << 30
"""Rank of an item that is not in the list."""


def ndcg(ranks: np.ndarray, cutoff: int = CUTOFF) -> np.ndarray:
    """Return the discounted gain of each event, its item at rank 0 giving 1.

    Examples
    --------
    >>> ndcg(np.array([0, 2, 10])).tolist()
    [1.0, 0.5, 0.0]
    """
    gains: np.ndarray = np.where(ranks < cutoff, 1.0 / np.log2(np.minimum(ranks, cutoff) + 2.0), 0.0)
    return gains


def reciprocal_rank(ranks: np.ndarray, cutoff: int = CUTOFF) -> np.ndarray:
    """Return one over the place of each event's item, 0 beyond the cutoff."""
    gains: np.ndarray = np.where(ranks < cutoff, 1.0 / (np.minimum(ranks, cutoff) + 1.0), 0.0)
    return gains


@dataclass(slots=True)
class Scores:
    """What happened to the events that were scored, in their order.

    Attributes
    ----------
    ranks
        Place of the event's item in the user's list, `NOT_LISTED` if it was not there.
    baselines
        The same for each baseline.
    new_items
        Whether the item had never occurred before.
    """

    ranks: list[int] = field(default_factory=list)
    baselines: list[np.ndarray] = field(default_factory=list)
    new_items: list[bool] = field(default_factory=list)


RESAMPLES = 1000


def confidence_interval(
    values: Sequence[np.ndarray], owners: Sequence[np.ndarray] | None = None, *, seed: int
) -> tuple[float, float]:
    """Return the 95 % interval of a mean of means, by a bootstrap over owners within each part.

    Parameters
    ----------
    values
        Of each part, one value an event.
    owners
        Of each part, whose event each is, numbers from 0; each has an owner of its own if not given.
    """
    rng = np.random.default_rng(seed)
    means = np.zeros((len(values), RESAMPLES))
    for index, part in enumerate(values):
        owner = np.arange(len(part)) if owners is None else np.unique(owners[index], return_inverse=True)[1]
        sums, counts = np.bincount(owner, part), np.bincount(owner)
        for sample in range(RESAMPLES):
            drawn = rng.integers(0, len(sums), len(sums))
            means[index, sample] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means.mean(0), [0.025, 0.975])
    return round(float(low), 5), round(float(high), 5)
