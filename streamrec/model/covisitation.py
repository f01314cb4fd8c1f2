"""Which items follow which in users' sequences: a bounded, decaying neighbour list per item.

The neighbour methods that still beat most networks on session data (STAN, Garg et al. 2019; VSTAN, Ludewig et al. 2020)
weigh a pair by how close its two events are, and by age. The same weights are kept here per item instead of per
session, so that an event costs a few dictionary updates and no old session needs to be stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

MAX_NEIGHBOURS = 64
"""Of each item, the strongest."""

KEPT_WHEN_FULL = 48
"""A list that overflows keeps so many, so that eviction is rare and a new pair gets its chance."""

LOOK_BACK = 8
"""An event is paired with so many before it: `DISTANCE_DECAY` makes the rest worthless."""

DISTANCE_DECAY = 0.75
SESSION_GAP_MS = 30 * 60_000
OTHER_SESSION_WEIGHT = 0.35
"""A pair with a pause of half an hour in between says less."""

BACKWARD_WEIGHT = 0.3
"""Order matters, but the pair itself says something in the other direction too."""

HALF_LIFE_MS = 7 * 86_400_000.0
_MAX_DOUBLINGS = 32.0


class Covisitation:
    """Decayed weights of ordered pairs of rows, at most `MAX_NEIGHBOURS` after each row.

    Examples
    --------
    >>> pairs = Covisitation()
    >>> changed = pairs.add([(1, 0), (2, 1_000)], 3, 2_000)
    >>> list(pairs.strongest(2, 5))
    [3]
    """

    def __init__(self) -> None:
        self.reference_ms = 0
        self._after: dict[int, dict[int, float]] = {}
        self._before: dict[int, set[int]] = {}
        """The other direction, so that a row that is given up leaves every list."""

    def add(self, prefix: Sequence[tuple[int, int]], row: int, time_ms: int) -> list[int]:
        """Pair an event with those before it.

        Parameters
        ----------
        prefix
            Row and event time of the user's events before this one, oldest first.
        row, time_ms
            The event.

        Returns
        -------
        list of int
            The rows whose lists changed.
        """
        doublings = (time_ms - self.reference_ms) / HALF_LIFE_MS
        if doublings > _MAX_DOUBLINGS:
            self._move_reference(time_ms)
            doublings = 0.0
        weight = 2.0**doublings
        changed = []
        later_ms = time_ms
        seen = {row}
        for other, other_ms in reversed(prefix[-LOOK_BACK:]):
            if later_ms - other_ms > SESSION_GAP_MS:
                weight *= OTHER_SESSION_WEIGHT
            later_ms = other_ms
            if other not in seen:
                seen.add(other)
                self._add(other, row, weight)
                self._add(row, other, weight * BACKWARD_WEIGHT)
                changed.append(other)
            weight *= DISTANCE_DECAY
        if changed:
            changed.append(row)
        return changed

    def strongest(self, row: int, n: int) -> dict[int, float]:
        """Return the strongest neighbours of a row, best first, with weights as of `reference_ms`."""
        return _strongest(self._after.get(row, {}), n)

    def clear(self, row: int) -> list[int]:
        """Forget a row, and return the rows whose lists changed."""
        for other in self._after.pop(row, {}):
            self._before[other].discard(row)
        changed = list(self._before.pop(row, ()))
        for other in changed:
            del self._after[other][row]
        return changed

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, for a checkpoint."""
        lengths = [len(after) for after in self._after.values()]
        pairs = sum(lengths)
        return {
            "reference_ms": np.array([self.reference_ms]),
            "row": np.repeat(np.array(list(self._after), np.int64), lengths),
            "other": np.fromiter(chain.from_iterable(self._after.values()), np.int64, pairs),
            "weight": np.fromiter(
                chain.from_iterable(after.values() for after in self._after.values()), np.float64, pairs
            ),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Become what :meth:`state` returned."""
        self.reference_ms = int(state["reference_ms"][0])
        self._after, self._before = {}, {}
        for row, other, weight in zip(
            state["row"].tolist(), state["other"].tolist(), state["weight"].tolist(), strict=True
        ):
            self._after.setdefault(row, {})[other] = weight
            self._before.setdefault(other, set()).add(row)

    def _add(self, row: int, other: int, weight: float) -> None:
        after = self._after.setdefault(row, {})
        known = after.get(other)
        if known is not None:
            after[other] = known + weight
            return
        if len(after) >= MAX_NEIGHBOURS:
            kept = _strongest(after, KEPT_WHEN_FULL)
            for dropped in after.keys() - kept.keys():
                self._before[dropped].discard(row)
            after = self._after[row] = kept
        after[other] = weight
        self._before.setdefault(other, set()).add(row)

    def _move_reference(self, to_ms: int) -> None:
        factor = 2.0 ** (-(to_ms - self.reference_ms) / HALF_LIFE_MS)
        for after in self._after.values():
            for other in after:
                after[other] *= factor
        self.reference_ms = to_ms


def _strongest(after: Mapping[int, float], n: int) -> dict[int, float]:
    """Return so many of the heaviest, those first; of equal ones the one that came first."""
    return {other: after[other] for other in sorted(after, key=after.__getitem__, reverse=True)[:n]}
