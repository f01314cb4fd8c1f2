"""Metrics common to all workers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from streamrec.service.tally import Tally

MAX_FIELD_NAMES = 100
"""Maximum number of names of dropped fields per topic; producers choose the keys of contexts."""

FRESHNESS_BUCKETS_S = (0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Densest in the range of a healthy pipeline."""

_RECORDS_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class WorkerMetrics:
    """Metrics common to all workers.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._freshness = Histogram(
            "streamrec_freshness_seconds",
            "From the production of an event to its effect: in the interest state, the list, retention, the model.",
            ["stage"],
            buckets=FRESHNESS_BUCKETS_S,
            registry=registry,
        )
        self._outcomes = Counter(
            "streamrec_outcomes",
            "Records by outcome (applied, duplicate, dead-lettered, refused), and lists made.",
            ["worker", "outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "streamrec_refused",
            "Refused records; those of `interests` are the dead letters.",
            ["worker", "topic", "reason"],
            registry=registry,
        )
        self._shortened = Counter(
            "streamrec_shortened_records",
            "Records shortened to fit their topic.",
            ["worker", "topic"],
            registry=registry,
        )
        self._dropped = Counter(
            "streamrec_dropped_fields",
            "Optional fields dropped from applied records, by name.",
            ["worker", "topic", "field"],
            registry=registry,
        )
        self._names: dict[str, set[str]] = {}
        """Names of dropped fields, by topic."""
        self._batch_seconds = Histogram(
            "streamrec_batch_seconds", "Duration of a batch.", ["worker"], registry=registry
        )
        self._batch_records = Histogram(
            "streamrec_batch_records", "Records in a batch.", ["worker"], buckets=_RECORDS_BUCKETS, registry=registry
        )
        self._newest = Gauge(
            "streamrec_newest_effect_timestamp_seconds",
            "Production time of the newest event whose effect is visible.",
            ["stage"],
            registry=registry,
        )

    def record_refused(self, worker: str, refused: Mapping[tuple[str, str], int]) -> None:
        """Count records refused outside of a batch, by topic and reason."""
        for (topic, reason), count in refused.items():
            self._refused.labels(worker, topic, reason).inc(count)

    def record_batch(self, worker: str, records: int, tally: Tally, *, seconds: float, now_ms: int) -> None:
        """Count an applied batch."""
        self._batch_seconds.labels(worker).observe(seconds)
        self._batch_records.labels(worker).observe(records)
        self.record_outcomes(worker, tally)
        self.record_fresh(worker, tally.produced_at_ms, now_ms=now_ms)

    def record_outcomes(self, worker: str, tally: Tally) -> None:
        """Count records by outcome."""
        for outcome, count in tally.outcomes.items():
            self._outcomes.labels(worker, outcome).inc(count)
        self.record_refused(worker, tally.refused)
        for topic, count in tally.shortened.items():
            self._shortened.labels(worker, topic).inc(count)
        for (topic, name), count in tally.dropped.items():
            names = self._names.setdefault(topic, set())
            if len(names) < MAX_FIELD_NAMES:
                names.add(name)
            self._dropped.labels(worker, topic, name if name in names else name.split(".")[0]).inc(count)

    def record_fresh(self, stage: str, produced_at_ms: list[int], *, now_ms: int) -> None:
        """Observe the freshness of events whose effect has become visible."""
        if not produced_at_ms:
            return
        freshness = self._freshness.labels(stage)
        for at_ms in produced_at_ms:
            freshness.observe(max(0, now_ms - at_ms) / 1_000)
        self.record_newest(stage, max(produced_at_ms))

    def record_newest(self, stage: str, produced_at_ms: int) -> None:
        """Update the production time of the newest event whose effect is visible."""
        self._newest.labels(stage).set(produced_at_ms / 1_000)


@cache
def worker_metrics() -> WorkerMetrics:
    """Return the metrics of this process."""
    return WorkerMetrics()
