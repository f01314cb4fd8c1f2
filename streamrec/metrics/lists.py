"""Metrics of recall about the serving version and the stored lists."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Info

from streamrec.service.list_marks import Census, Facts


class ServingMetrics:
    """Metrics of the serving version.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._serving = Info("streamrec_serving_model", "The serving version.", registry=registry)
        self._version = ""

    def record_version(self, version: str) -> bool:
        """Update the serving version, and return whether it has changed."""
        if version == self._version:
            return False
        self._serving.info({"version": version})
        self._version = version
        return True


class ListMetrics:
    """Metrics of stored and rebuilt lists.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._waiting = Gauge(
            "streamrec_lists_waiting",
            "Lists that wait to be rebuilt: made by a version that lacked much of the stream (poor), that is outdated "
            "(far), or shorter than they could be (short).",
            ["because"],
            registry=registry,
        )
        self._waiting_since = Gauge(
            "streamrec_lists_waiting_since_timestamp_seconds",
            "Since when lists have been waiting to be rebuilt, 0 if none is.",
            registry=registry,
        )
        self._marked_short = Gauge(
            "streamrec_lists_short", "Lists with fewer items than asked for, waiting or not.", registry=registry
        )
        self._items = Gauge(
            "streamrec_listable_items",
            "Available items: known to the serving version, or only to the stream and the catalogue.",
            ["known_to"],
            registry=registry,
        )
        self._version_events = Gauge(
            "streamrec_serving_events",
            "Events that the serving version has learned, and events in the stream that it lacks.",
            ["state"],
            registry=registry,
        )
        self._rebuilt = Counter("streamrec_lists_rebuilt", "Rebuilt lists.", registry=registry)
        self._rebuilt_before = 0

    def record(self, facts: Facts, census: Census, rebuilt: int) -> None:
        """Update the counts of stored lists, and of lists rebuilt since the start."""
        for because in ("poor", "far", "short"):
            self._waiting.labels(because).set(getattr(census, because))
        self._waiting_since.set(facts.waiting_since_ms / 1_000)
        self._marked_short.set(census.all_short)
        self._items.labels("version").set(facts.known_items)
        self._items.labels("stream-or-catalogue").set(facts.other_items)
        self._version_events.labels("learned").set(facts.events)
        self._version_events.labels("lacking").set(facts.lacking)
        self._rebuilt.inc(rebuilt - self._rebuilt_before)
        self._rebuilt_before = rebuilt
