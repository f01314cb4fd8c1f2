"""Prometheus metrics of the monitor, with the names of common Kafka lag exporters.

prometheus-client writes all metrics except those per partition: for 38,400 partitions it takes a second of CPU time per
scrape, most of it for labels that never change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from streamrec.adapters.kafka.dead_letters import DEAD_LETTER_TOPICS
from streamrec.adapters.kafka.group_lag import GroupLag, Lag
from streamrec.adapters.kafka.offsets import Offsets, Partitions
from streamrec.contracts.topics import DEAD_LETTER_SUFFIX
from streamrec.domain.retention import RETENTION_DAYS
from streamrec.monitor.groups import GroupState
from streamrec.monitor.observation import Observation
from streamrec.monitor.readiness import CHECKS

_OF_GROUP = ["consumergroup"]


class MonitorCollector(Collector):
    """Collector of the last poll.

    Parameters
    ----------
    observation
        Returns what is known now.
    """

    def __init__(self, observation: Callable[[], Observation]) -> None:
        self._observation = observation

    def collect(self) -> Iterator[Metric]:
        """Return all metric families of the last poll, including its age."""
        now = self._observation()
        yield from _groups(now.groups)
        yield from _held_back(now)
        yield from _servers(now)
        yield from _retention(now)
        yield from _unreadable(now)
        yield _counter("streamrec_looks", "Polls of the monitor.", now.looks)
        yield _counter("streamrec_model_refusals", "Refused model versions.", now.versions.refused)
        yield _counter("streamrec_model_rollbacks", "Rollbacks.", now.versions.rolled_back)
        good = sum(version.status in {"good", "serving"} for version in now.versions.versions)
        yield GaugeMetricFamily("streamrec_model_good_versions", "Good versions with a checkpoint.", value=good)
        letters = GaugeMetricFamily("streamrec_dead_letters", "Dead-lettered records, each once.", labels=["topic"])
        for letter_topic in DEAD_LETTER_TOPICS:
            topic = letter_topic.removesuffix(DEAD_LETTER_SUFFIX)
            letters.add_metric([topic], now.refused.get(topic, 0))
        yield letters


class Exposition:
    """All metrics in the text format.

    Parameters
    ----------
    observation
        Returns what is known now.
    """

    def __init__(self, observation: Callable[[], Observation]) -> None:
        self._observation = observation
        self._registry = registry(observation)
        self._cluster = Partitions({})
        self._labels: list[str] = []
        """Labels of each partition."""

    def text(self) -> Iterator[bytes]:
        """Return the metrics in text format 0.0.4, in chunks: those of a large cluster are ten megabytes."""
        now = self._observation()
        yield generate_latest(self._registry)
        if now.lag is not None:
            yield from self._partitions(now.lag, now.groups)

    def _partitions(self, lag: Lag, groups: Sequence[GroupState]) -> Iterator[bytes]:
        if lag.partitions is not self._cluster:
            self._cluster = lag.partitions
            self._labels = [f'topic="{topic}",partition="{number}"}}' for topic, number in lag.partitions.sources]
        every = np.arange(len(self._labels))
        for name, what, offsets in (
            ("kafka_topic_partition_current_offset", "Offset of the next record.", lag.end),
            ("kafka_topic_partition_oldest_offset", "Offset of the oldest record.", lag.start),
        ):
            yield _head(name, what)
            yield self._lines(name + "{", every, offsets)
        for name, what, value_of in _FAMILIES:
            yield _head(name, what)
            for group in groups:
                part = group.partitions
                begin = f'{name}{{consumergroup="{_escaped(group.name)}",'
                yield self._lines(begin, part.index, value_of(part, lag.at_ms))

    def _lines(self, begin: str, index: Offsets, values: np.ndarray) -> bytes:
        labels = self._labels
        lines = [f"{begin}{labels[at]} {value}\n" for at, value in zip(index.tolist(), values.tolist(), strict=True)]
        return "".join(lines).encode()


def registry(observation: Callable[[], Observation]) -> CollectorRegistry:
    """Return a registry of the observed metrics and those of the monitor's process."""
    found = CollectorRegistry()
    found.register(MonitorCollector(observation))
    ProcessCollector(registry=found)
    PlatformCollector(registry=found)
    return found


def _head(name: str, what: str) -> bytes:
    return f"# HELP {name} {what}\n# TYPE {name} gauge\n".encode()


_FAMILIES: list[tuple[str, str, Callable[[GroupLag, int], np.ndarray]]] = [
    ("kafka_consumergroup_lag", "Lag in records.", lambda part, _: part.lag),
    ("kafka_consumergroup_current_offset", "Committed offset, -1 for none.", lambda part, _: part.committed),
    (
        "kafka_consumergroup_group_lag_seconds",
        "Age of the record at the committed offset, 0 at the end, NaN if not read yet.",
        lambda part, at_ms: part.behind_s(at_ms),
    ),
]
"""Metrics of each partition of a group."""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _groups(groups: Iterable[GroupState]) -> Iterator[Metric]:
    families: list[tuple[str, str, Callable[[GroupState], float]]] = [
        ("kafka_consumergroup_members", "Members.", lambda group: group.members),
        ("streamrec_stalled_seconds", "Time since a position moved while records waited.", lambda g: g.stalled_s),
        ("streamrec_lost_records", "Records deleted before they were read.", lambda group: group.lost),
        ("streamrec_beyond_end_partitions", "Partitions that end before the position.", lambda group: group.beyond_end),
        ("streamrec_leaderless_partitions", "Partitions without a leader.", lambda group: group.leaderless),
        ("streamrec_unassigned_partitions", "Partitions assigned to no member.", lambda group: len(group.unassigned)),
        ("streamrec_missing_topics", "Topics of the group that do not exist.", lambda group: len(group.missing)),
    ]
    for name, what, value_of in families:
        family = GaugeMetricFamily(name, what, labels=_OF_GROUP)
        for group in groups:
            family.add_metric([group.name], value_of(group))
        yield family


def _servers(now: Observation) -> Iterator[Metric]:
    up = GaugeMetricFamily("streamrec_server_up", "Whether a server answers.", labels=["server"])
    for server in now.servers:
        up.add_metric([server], server not in now.faults)
    yield up
    restarts = CounterMetricFamily(
        "streamrec_local_restarts", "Restarts of crashed processes by `streamrec up`.", labels=["process"]
    )
    for process, count in now.restarts.items():
        restarts.add_metric([process], count)
    yield restarts
    yield from _causes(now)
    if now.read_s_ago is not None:
        yield GaugeMetricFamily("streamrec_lag_age_seconds", "Age of the lag figures.", value=now.read_s_ago)


def _held_back(now: Observation) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "streamrec_held_back_records", "Records withheld by open transactions.", labels=["topic"]
    )
    for held in now.held_back:
        family.add_metric([held.topic], held.records)
    yield family


def _causes(now: Observation) -> Iterator[Metric]:
    found = now.causes
    yield GaugeMetricFamily("streamrec_ready", "Whether the pipeline is healthy.", value=not found)
    family = GaugeMetricFamily(
        "streamrec_cause", "1 for each cause of an unhealthy pipeline.", labels=["cause", "subject"]
    )
    for name in {check.name for check in CHECKS} - {cause.name for cause in found}:
        family.add_metric([name, ""], 0)
    for name, subject in sorted({(cause.name, cause.subject) for cause in found}):
        family.add_metric([name, subject], 1)
    yield family


def _retention(now: Observation) -> Iterator[Metric]:
    if "" not in now.retention:
        return
    for field, what in (
        ("users", "Users."),
        ("lists", "Lists made."),
        ("followed_lists", "Lists clicked."),
        ("clicks", "Clicks."),
        ("followed_clicks", "Clicks attributed to a list."),
        ("purchases", "Purchases."),
        ("followed_purchases", "Purchases attributed to a list."),
    ):
        family = GaugeMetricFamily(f"streamrec_arm_{field}", what, labels=["arm"])
        for arm in now.retention[""].arms:
            family.add_metric([arm.arm], getattr(arm, field))
        yield family
    shares = GaugeMetricFamily(
        "streamrec_retention_share",
        "Share of users who returned n days later, over all cohorts.",
        labels=["arm", "day"],
    )
    for name, report in now.retention.items():
        for n in RETENTION_DAYS:
            known = [(day.new_users, share) for day in report.days if (share := getattr(day, f"day_{n}")) is not None]
            if users := sum(size for size, _ in known):
                shares.add_metric([name or "all", str(n)], sum(size * share for size, share in known) / users)
    yield shares


def _unreadable(now: Observation) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "streamrec_refused", "Records refused by the monitor.", labels=["worker", "topic", "reason"]
    )
    for (topic, reason), count in now.unreadable.items():
        family.add_metric(["monitor", topic, reason], count)
    yield family


def _counter(name: str, what: str, value: int) -> Metric:
    return CounterMetricFamily(name, what, value=value)
