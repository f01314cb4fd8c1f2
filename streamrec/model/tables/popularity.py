"""Item popularity: counts that decay with event time, with several half-lives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrec.domain.interest import SequenceEvent
from streamrec.model.tables.vocabulary import grown

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

HALF_LIVES_MS = np.array([10 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS], np.float64)
"""From breaking news to seasonal goods; their weights are learned."""

CONTROL_HALF_LIFE = 3
"""The control arm ranks by popularity with a half-life of a day, a fixed baseline."""

REPEAT_PERIOD_MS = DAY_MS
"""A user's events on the same item within this time are repetitions: popularity counts people, not clicks."""

REPEAT_SHARE = 0.5
"""Each repetition counts this share of the previous one, so that one user never counts as much as two."""

_MAX_DOUBLINGS = 24.0
"""Counts have a common reference time, which moves before the newest events weigh 2^24 times as much as those at it."""


class Popularity:
    """Decayed counts of all rows, one value per half-life; the cost of an event does not depend on the number of rows.

    Counts are relative to `reference_ms`: an event at time t adds `2^((t - reference_ms) / half_life)`, so that older
    counts need no update. The order of events does not matter.

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
        """Grow to this many rows."""
        self.counts = grown(self.counts, rows)
        self.first_ms = grown(self.first_ms, rows)
        self.last_ms = grown(self.last_ms, rows)

    def add_many(self, rows: np.ndarray, times_ms: np.ndarray, shares: np.ndarray | float = 1.0) -> None:
        """Count one event per given row and time; a row may occur several times.

        Parameters
        ----------
        rows, times_ms
            The row and the event time of each event, int64.
        shares
            Weight of each event, from :func:`share_of`, or of all events.
        """
        if not len(rows):
            return
        newest_ms = int(times_ms.max())
        if (newest_ms - self.reference_ms) / HALF_LIVES_MS[0] > _MAX_DOUBLINGS:
            self.move_reference(newest_ms)
        weights = np.reshape(shares, (-1, 1)) * np.exp2((times_ms[:, None] - self.reference_ms) / HALF_LIVES_MS)
        np.add.at(self.counts, rows, weights.astype(np.float32))
        self.totals += weights.sum(0)
        self.first_ms[rows] = np.where(self.first_ms[rows] == 0, newest_ms, self.first_ms[rows])
        np.minimum.at(self.first_ms, rows, times_ms)
        np.maximum.at(self.last_ms, rows, times_ms)

    def move_reference(self, to_ms: int) -> None:
        """Change the reference time of all counts."""
        factors = decay(to_ms - self.reference_ms)
        self.counts *= factors.astype(np.float32)
        self.totals *= factors
        self.reference_ms = to_ms

    def clear(self, row: int) -> None:
        """Clear a row."""
        self.totals = np.maximum(self.totals - self.counts[row], 0.0)
        self.counts[row] = 0.0
        self.first_ms[row] = self.last_ms[row] = 0

    def state(self, rows: int) -> dict[str, np.ndarray]:
        """Return the state of the first rows, for a checkpoint."""
        return {
            "reference_ms": np.array([self.reference_ms]),
            "counts": self.counts[:rows].copy(),
            "totals": self.totals.copy(),
            "first_ms": self.first_ms[:rows].copy(),
            "last_ms": self.last_ms[:rows].copy(),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        self.reference_ms = int(state["reference_ms"][0])
        self.counts = state["counts"].copy()
        self.totals = state["totals"].copy()
        self.first_ms = state["first_ms"].copy()
        self.last_ms = state["last_ms"].copy()


def decay(age_ms: float | np.ndarray) -> np.ndarray:
    """Return the decay factor after some time, one value per half-life in the last axis."""
    factors: np.ndarray = np.exp2(-age_ms / HALF_LIVES_MS)
    return factors


def share_of(sequence: Sequence[SequenceEvent], index: int, *, is_whole: bool) -> float:
    """Return the weight of an event: 1 for a user's first event on an item, less for repetitions.

    Parameters
    ----------
    sequence
        The user's events, oldest first.
    index
        Index of the event.
    is_whole
        Whether the sequence contains all of the user's events. If not, earlier events are unknown, and an event is
        weighted by all events on its item within the period, including later ones: a batch may contain a whole sequence
        of repetitions, none of which is the first.

    Examples
    --------
    >>> events = [SequenceEvent(1_000 * n, 0, 0, n, item, "") for n, item in enumerate("abaa")]
    >>> [share_of(events, index, is_whole=True) for index in range(4)]
    [1.0, 1.0, 0.5, 0.25]
    >>> [share_of(events, index, is_whole=False) for index in range(4)]
    [0.25, 1.0, 0.25, 0.25]
    """
    event = sequence[index]
    item_id, time_ms = event.item_id, event.event_time_ms
    others = sequence[:index] if is_whole else sequence
    same = [other.event_time_ms for other in others if other.item_id == item_id]
    repeats = sum(abs(time_ms - other_ms) <= REPEAT_PERIOD_MS for other_ms in same) - (not is_whole)
    return REPEAT_SHARE**repeats
