"""Metrics of workers that make no progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

from prometheus_client import REGISTRY, CollectorRegistry, Gauge

PAUSED, WAITING = "streamrec_paused_seconds", "streamrec_waiting_seconds"
"""Metrics of how long a worker has made no progress, with the reason as a label."""

MAX_REASON = 300


class Standstill:
    """Metrics of a worker that makes no progress because it has paused itself or is retrying.

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
        """Return a context in which a reason can be set; it is exported until the context exits.

        Several threads may be stalled at the same time, each with its own reason.
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
    """Return the metrics of this process."""
    return Standstill()
