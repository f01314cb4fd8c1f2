"""Bounded time series, and rates and quantiles from counters; without I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

HISTORY = 1_200
"""Values per series: half an hour at the monitor's polling interval."""

MAX_SERIES = 200
"""Maximum number of series; later names are not recorded."""

MAX_PROCESSES = 64
"""Maximum number of processes whose last counters are kept."""

WINDOW = 15
"""Number of polls over which rates and percentiles are computed."""

PROGRESS = 512
"""Instants of which the counters of the model's tests are kept."""

SMOOTHED = 5
"""Window of hit rates, in points of a chart."""

Key = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels of a sample."""


class History:
    """The latest values of named series."""

    def __init__(self) -> None:
        self._series: dict[str, deque[tuple[float, float]]] = {}

    def record(self, name: str, at_s: float, value: float | None) -> None:
        """Append a value unless it is `None`."""
        if value is None or not math.isfinite(value):
            return
        if name not in self._series and len(self._series) >= MAX_SERIES:
            return
        self._series.setdefault(name, deque(maxlen=HISTORY)).append((at_s, value))

    def of(self, name: str) -> list[tuple[float, float]]:
        """Return times and values, oldest first."""
        return list(self._series.get(name, ()))

    def newest(self, name: str) -> float | None:
        """Return the latest value."""
        series = self._series.get(name)
        return series[-1][1] if series else None


class Progress:
    """Hit rates since the monitor started: when there are too many instants, every other one is forgotten."""

    def __init__(self) -> None:
        self._counts: list[tuple[float, float, float, float]] = []
        self._least_s = 0.0
        """From one instant that is kept to the next."""

    def record(self, at_s: float, tested: float, hits: float, popular_hits: float) -> None:
        """Record the counters: tested events, and hits of the lists and of popularity."""
        if self._counts and at_s - self._counts[-1][0] < self._least_s:
            return
        self._counts.append((at_s, tested, hits, popular_hits))
        if len(self._counts) > PROGRESS:
            del self._counts[1::2]
            self._least_s = 1.5 * (self._counts[-1][0] - self._counts[0][0]) / len(self._counts)

    def shares(self, points: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """Return times and hit rates, of the lists and of popularity, at about this many times."""
        every = max(1, len(self._counts) // points)
        kept = [*self._counts[:-1:every], *self._counts[-1:]]
        lists, popular = [], []
        for place, (at_s, tested, hits, popular_hits) in enumerate(kept):
            _, tested_then, hits_then, popular_then = kept[max(0, place - SMOOTHED)]
            if tested > tested_then:
                lists.append((at_s, (hits - hits_then) / (tested - tested_then)))
                popular.append((at_s, (popular_hits - popular_then) / (tested - tested_then)))
        return lists, popular


class Totals:
    """Sums counters over processes: after a process restarts at 0 the total continues.

    Only the latest `WINDOW` polls are kept. The counts of ended processes are retained.
    """

    def __init__(self) -> None:
        self._last: dict[str, Mapping[Key, float]] = {}
        self._totals: dict[Key, float] = {}
        self._looks: deque[tuple[float, dict[Key, float]]] = deque(maxlen=WINDOW)

    def take(self, at_s: float, scraped: Mapping[str, Mapping[Key, float]]) -> None:
        """Add the current metrics of each process."""
        for process, samples in scraped.items():
            last = self._last.get(process, {})
            for key, value in samples.items():
                before = last.get(key, 0.0)
                self._totals[key] = self._totals.get(key, 0.0) + (value - before if value >= before else value)
            # a process that does not answer for a while continues from its last counts
            self._last.pop(process, None)
            self._last[process] = samples
        while len(self._last) > MAX_PROCESSES:
            del self._last[next(iter(self._last))]
        self._looks.append((at_s, dict(self._totals)))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a counter over all samples with these labels."""
        return _sum(self._looks[-1][1], name, labels) if self._looks else 0.0

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the totals of a counter by the values of a label, over all samples with the other labels."""
        found: dict[str, float] = {}
        for (sample, pairs), value in (self._looks[-1][1] if self._looks else {}).items():
            values = dict(pairs)
            if sample == name and label in values and labels.items() <= values.items():
                found[values[label]] = found.get(values[label], 0.0) + value
        return found

    def grown(self, name: str, **labels: str) -> float:
        """Return the increase of a counter over the window."""
        if len(self._looks) < 2:
            return 0.0
        return _sum(self._looks[-1][1], name, labels) - _sum(self._looks[0][1], name, labels)

    def rate(self, name: str, **labels: str) -> float | None:
        """Return the rate of a counter per second, over the window."""
        if len(self._looks) < 2:
            return None
        return self.grown(name, **labels) / max(1e-3, self._looks[-1][0] - self._looks[0][0])

    def quantile(self, q: float, name: str, **labels: str) -> float | None:
        """Return a quantile of a histogram over the window, `None` without observations.

        Values are interpolated linearly within a bucket, as in Prometheus.
        """
        if len(self._looks) < 2:
            return None
        bounds: dict[float, float] = {}
        for sign, (_, totals) in ((1, self._looks[-1]), (-1, self._looks[0])):
            for (sample, pairs), value in totals.items():
                own = dict(pairs)
                if sample == f"{name}_bucket" and labels.items() <= own.items():
                    bound = float(own["le"])
                    bounds[bound] = bounds.get(bound, 0.0) + sign * value
        return quantile(q, bounds)


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """Return a quantile of a histogram given as cumulative counts by upper bound.

    Examples
    --------
    >>> quantile(0.5, {1.0: 10.0, 2.0: 20.0, float("inf"): 20.0})
    1.0
    >>> quantile(0.75, {1.0: 10.0, 2.0: 20.0, float("inf"): 20.0})
    1.5
    """
    bounds = sorted(buckets)
    count = buckets[bounds[-1]] if bounds else 0.0
    if count <= 0:
        return None
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= q * count:
            if math.isinf(bound):
                return lower
            share = (q * count - below) / max(1e-9, buckets[bound] - below)
            return lower + share * (bound - lower)
        lower, below = bound, buckets[bound]
    return lower


def _sum(totals: Mapping[Key, float], name: str, labels: Mapping[str, str]) -> float:
    return sum(
        value for (sample, pairs), value in totals.items() if sample == name and labels.items() <= dict(pairs).items()
    )
