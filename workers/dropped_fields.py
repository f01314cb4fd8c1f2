"""Logs dropped optional fields periodically: producers cannot see them anywhere else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

INTERVAL_S = 60.0
"""Seconds between two lines; the first one is immediate."""

MAX_TOLD, MAX_NAMES = 20, 1_000
"""Maximum number of names per line; beyond it context keys are counted together."""

_log = structlog.get_logger(__name__)


class DroppedFields:
    """Counts dropped fields and logs them at most once per minute.

    Parameters
    ----------
    monotonic_s
        Clock for the interval.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._due_s = float("-inf")
        self._counts: Counter[str] = Counter()

    def tell(self, dropped: Mapping[tuple[str, str], int]) -> None:
        """Add counts by topic and field, and write the line if it is due."""
        for (topic, name), count in dropped.items():
            full = f"{topic}.{name}"
            known = full in self._counts or len(self._counts) < MAX_NAMES
            self._counts[full if known else f"{topic}.{name.split('.')[0]}"] += count
        if not self._counts or self._monotonic_s() < self._due_s:
            return
        self._due_s = self._monotonic_s() + INTERVAL_S
        told = dict(self._counts.most_common(MAX_TOLD))
        _log.warning("optional fields dropped", count=self._counts.total(), fields=told)
        self._counts.clear()
