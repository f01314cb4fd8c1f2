"""Statistical significance."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, erfc, sqrt

import numpy as np

RESAMPLES = 1_000
EXACT_UP_TO = 1_000
"""Up to this many discordant pairs the exact binomial test is used, beyond it the normal approximation."""


def mcnemar(hits: np.ndarray, other_hits: np.ndarray) -> float:
    """Return the p-value of the difference between two methods on the same events.

    Parameters
    ----------
    hits, other_hits
        Whether each event was a hit, bool, `(events,)`.

    Returns
    -------
    float
        p of the two-sided test of McNemar (Psychometrika, 1947), 1 if the two never differ.

    Examples
    --------
    >>> mcnemar(np.array([True] * 6 + [False]), np.array([False] * 6 + [True]))
    0.125
    """
    only, only_other = int((hits & ~other_hits).sum()), int((other_hits & ~hits).sum())
    discordant = only + only_other
    if discordant <= EXACT_UP_TO:
        tail = sum(comb(discordant, k) for k in range(min(only, only_other) + 1))
        return float(min(1.0, 2 * tail / 2**discordant))
    return erfc(max(0, abs(only - only_other) - 1) / sqrt(2 * discordant))


def confidence_interval(
    values: Sequence[np.ndarray], owners: Sequence[np.ndarray] | None = None, *, seed: int
) -> tuple[float, float]:
    """Return the 95 % interval of a mean of means, by a bootstrap over owners within each part.

    Parameters
    ----------
    values
        By part, one value per event.
    owners
        By part, the owner of each event; by default each event has its own.
    """
    rng = np.random.default_rng(seed)
    means = [
        resampled_means(part[:, None], np.arange(len(part)) if owners is None else owners[index], rng)[:, 0]
        for index, part in enumerate(values)
    ]
    return interval(np.mean(means, axis=0))


def resampled_means(values: np.ndarray, owners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return means over the events of owners resampled with replacement, since events of a user are not independent.

    Parameters
    ----------
    values
        `(events, columns)`.
    owners
        Index of each event's owner, `(events,)`.

    Returns
    -------
    np.ndarray
        `(RESAMPLES, columns)`
    """
    numbers, inverse = np.unique(owners, return_inverse=True)
    sums = np.stack([np.bincount(inverse, column, len(numbers)) for column in values.T], axis=1)
    events = np.bincount(inverse, minlength=len(numbers)).astype(float)
    means = np.empty((RESAMPLES, values.shape[1]))
    for resample in means:
        drawn = np.bincount(rng.integers(0, len(numbers), len(numbers)), minlength=len(numbers)).astype(float)
        resample[:] = (drawn @ sums) / (drawn @ events)
    return means


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """Return the 95 % confidence interval of resampled figures."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return round(float(low), 5), round(float(high), 5)
