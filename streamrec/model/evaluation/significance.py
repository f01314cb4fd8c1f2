"""Whether a difference is more than chance."""

from __future__ import annotations

from math import comb, erfc, sqrt

import numpy as np

RESAMPLES = 1_000
EXACT_UP_TO = 1_000
"""So many discordant pairs are tested by the binomial itself, more of them by its normal approximation."""


def mcnemar(hits: np.ndarray, other_hits: np.ndarray) -> float:
    """Return how likely such a difference between two methods on the same events is, if they are equally good.

    Parameters
    ----------
    hits, other_hits
        Whether each event was a hit, bool, `(events,)`.

    Returns
    -------
    float
        Of the two-sided test of McNemar (Psychometrika, 1947), 1 if the two never differ.

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


def resampled_means(values: np.ndarray, users: np.ndarray, *, seed: int) -> np.ndarray:
    """Return means over events of users drawn with replacement: the events of a user are not independent.

    Parameters
    ----------
    values
        `(events, columns)`.
    users
        Number of each event's user, `(events,)`.

    Returns
    -------
    np.ndarray
        `(RESAMPLES, columns)`
    """
    numbers, inverse = np.unique(users, return_inverse=True)
    sums = np.stack([np.bincount(inverse, column, len(numbers)) for column in values.T], axis=1)
    events = np.bincount(inverse, minlength=len(numbers)).astype(float)
    rng = np.random.default_rng(seed)
    means = np.empty((RESAMPLES, values.shape[1]))
    for resample in means:
        drawn = np.bincount(rng.integers(0, len(numbers), len(numbers)), minlength=len(numbers)).astype(float)
        resample[:] = (drawn @ sums) / (drawn @ events)
    return means


def interval(resampled: np.ndarray) -> list[float]:
    """Return the 95 % confidence interval that resampled figures span."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return [round(float(low), 5), round(float(high), 5)]
