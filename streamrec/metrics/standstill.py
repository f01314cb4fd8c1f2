"""Why a worker does not get on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

from prometheus_client import REGISTRY, CollectorRegistry, Gauge

PAUSED, WAITING = "streamrec_paused_seconds", "streamrec_waiting_seconds"
"""Metrics that say for how long a worker has not got on, with the reason as a label."""

MAX_REASON = 300


class Standstill:
    """Says why a worker does not get on: it has paused itself, or tries again what fails.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._gauges = {
            PAUSED: Gauge(PAUSED, "How long the worker has paused itself, and why.", ["reason"], registry=registry),
            WAITING: Gauge(WAITING, "How long the worker has been retrying, and why.", ["reason"], registry=registry),
        }
        self._lock = threading.Lock()
        self._standing: dict[object, tuple[str, str, float]] = {}

    @contextmanager
    def of(self, kind: str) -> Iterator[Callable[[str], None]]:
        """Return what takes the reason, for as long as the standstill may last; nothing is said before the first one.

        Several threads may stand still at a time, each for a reason of its own.
        """
        token = object()

        def say(because: str) -> None:
            with self._lock:
                _, _, since_s = self._standing.get(token, ("", "", time.monotonic()))
                self._standing[token] = kind, because[:MAX_REASON], since_s
                self._show(kind)

        try:
            yield say
        finally:
            if token in self._standing:
                with self._lock:
                    del self._standing[token]
                    self._show(kind)

    def _show(self, kind: str) -> None:
        gauge = self._gauges[kind]
        gauge.clear()
        since: dict[str, float] = {}
        for of_kind, because, since_s in self._standing.values():
            if of_kind == kind:
                since[because] = min(since_s, since.get(because, since_s))
        for because, since_s in since.items():
            gauge.labels(because).set_function(partial(_seconds_since, since_s))


def _seconds_since(since_s: float) -> float:
    return time.monotonic() - since_s


@cache
def standstill() -> Standstill:
    """Return what this process says of its standstills."""
    return Standstill()
