"""What a worker's reader says of what it cannot read."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from streamrec.service.batch import TopicPartition


class ReaderMetrics:
    """Partitions and topics that a worker does not read.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._stopped = Gauge(
            "streamrec_stopped_partitions",
            "1 for a partition that cannot be read because the broker refuses; the log says why.",
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
        """Take note of the partitions that cannot be read now."""
        self._stopped.clear()
        for source in stopped:
            self._stopped.labels(worker, source.topic, source.partition).set(1)

    def record_refusal(self, worker: str) -> None:
        """Take note that a worker refused a topic that is not the one it had read."""
        self._refusals.labels(worker).inc()


@cache
def reader_metrics() -> ReaderMetrics:
    """Return the metrics of this process."""
    return ReaderMetrics()
