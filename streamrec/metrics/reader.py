"""Metrics of unreadable partitions and refused topics."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from streamrec.service.batch import TopicPartition


class ReaderMetrics:
    """Metrics of partitions and topics that a worker cannot read.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._stopped = Gauge(
            "streamrec_stopped_partitions",
            "1 for a partition that cannot be read because the broker rejects it; the reason is in the log.",
            ["worker", "topic", "partition"],
            registry=registry,
        )
        self._refusals = Counter(
            "streamrec_wrong_topics",
            "Times that a worker refused to read: a topic was re-created, or ends before the position.",
            ["worker"],
            registry=registry,
        )

    def record_stopped(self, worker: str, stopped: Iterable[TopicPartition]) -> None:
        """Update the partitions that cannot be read."""
        self._stopped.clear()
        for source in stopped:
            self._stopped.labels(worker, source.topic, source.partition).set(1)

    def record_refusal(self, worker: str) -> None:
        """Count a refused topic."""
        self._refusals.labels(worker).inc()


@cache
def reader_metrics() -> ReaderMetrics:
    """Return the metrics of this process."""
    return ReaderMetrics()
