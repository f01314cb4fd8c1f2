"""How often items occurred of late: counts that decay with event time, with several half-lives."""

from __future__ import annotations

import numpy as np

from streamrec.model.vocabulary import grown

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

HALF_LIVES_MS = np.array([10 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS], np.float64)
"""From breaking news to seasonal goods; which of them matter is learned."""

CONTROL_HALF_LIFE = 3
"""The control arm ranks by the popularity of a day: a fixed yardstick."""

_MAX_DOUBLINGS = 24.0
"""Counts refer to one instant; it moves on before the newest events weigh 2^24 times as much as those at it."""


class Popularity:
    """Decayed counts of all rows, one value per half-life; the cost of an event does not depend on their number.

    A count refers to `reference_ms`: an event at time t adds `2^((t - reference_ms) / half_life)`, so that older counts
    need not be touched. The order of events does not matter.

    Attributes
    ----------
    counts
        `(capacity, len(HALF_LIVES_MS))`, float32, as of `reference_ms`.
    totals
        The sum over all items, `(len(HALF_LIVES_MS),)`.
    first_ms, last_ms
        Event time of the first and of the last event of each row, 0 for none.
    """

    def __init__(self) -> None:
        self.reference_ms = 0
        self.counts = np.zeros((1024, len(HALF_LIVES_MS)), np.float32)
        self.totals = np.zeros(len(HALF_LIVES_MS))
        self.first_ms = np.zeros(1024, np.int64)
        self.last_ms = np.zeros(1024, np.int64)

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        self.counts = grown(self.counts, rows)
        self.first_ms = grown(self.first_ms, rows)
        self.last_ms = grown(self.last_ms, rows)

    def add_many(self, rows: np.ndarray, times_ms: np.ndarray) -> None:
        """Count one event of each given row at the given time; a row may occur several times."""
        if not len(rows):
            return
        newest_ms = int(times_ms.max())
        if (newest_ms - self.reference_ms) / HALF_LIVES_MS[0] > _MAX_DOUBLINGS:
            self.move_reference(newest_ms)
        weights = np.exp2((times_ms[:, None] - self.reference_ms) / HALF_LIVES_MS)
        np.add.at(self.counts, rows, weights.astype(np.float32))
        self.totals += weights.sum(0)
        self.first_ms[rows] = np.where(self.first_ms[rows] == 0, newest_ms, self.first_ms[rows])
        np.minimum.at(self.first_ms, rows, times_ms)
        np.maximum.at(self.last_ms, rows, times_ms)

    def move_reference(self, to_ms: int) -> None:
        """Let all counts refer to another instant."""
        factors = decay(to_ms - self.reference_ms)
        self.counts *= factors.astype(np.float32)
        self.totals *= factors
        self.reference_ms = to_ms

    def clear(self, row: int) -> None:
        """Forget a row."""
        self.totals = np.maximum(self.totals - self.counts[row], 0.0)
        self.counts[row] = 0.0
        self.first_ms[row] = self.last_ms[row] = 0

    def state(self, rows: int) -> dict[str, np.ndarray]:
        """Return the first rows of everything, for a checkpoint."""
        return {
            "reference_ms": np.array([self.reference_ms]),
            "counts": self.counts[:rows].copy(),
            "totals": self.totals.copy(),
            "first_ms": self.first_ms[:rows].copy(),
            "last_ms": self.last_ms[:rows].copy(),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Become what :meth:`state` returned."""
        self.reference_ms = int(state["reference_ms"][0])
        self.counts = state["counts"].copy()
        self.totals = state["totals"].copy()
        self.first_ms = state["first_ms"].copy()
        self.last_ms = state["last_ms"].copy()


def decay(age_ms: float | np.ndarray) -> np.ndarray:
    """Return what is left of a weight after some time, one value per half-life in the last axis."""
    factors: np.ndarray = np.exp2(-age_ms / HALF_LIVES_MS)
    return factors
