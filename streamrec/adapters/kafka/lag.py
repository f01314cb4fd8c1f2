"""How far the workers are behind, and what is in the topics: read from the broker alone, without joining a group."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing

import tenacity
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from msgspec import Struct

from streamrec.adapters.kafka.client import client_config, patience, translate, translate_exception
from streamrec.contracts.topics import CLICKS, IMPRESSIONS, PURCHASES, RECOMMENDATIONS, TOPICS, USER_INTERESTS
from streamrec.errors import TransientError
from streamrec.service.batch import Positions, TopicPartition
from streamrec.settings import KafkaAccess

GROUPS: Mapping[str, Sequence[str]] = {
    "streamrec-interests": (CLICKS, PURCHASES),
    "streamrec-trainer": (USER_INTERESTS,),
    "streamrec-recall": (USER_INTERESTS,),
    "streamrec-retention": (CLICKS, PURCHASES, RECOMMENDATIONS, IMPRESSIONS),
}
"""The workers' consumer groups and what each one reads."""

_TIMEOUT_S = 10.0

_while_starting = tenacity.retry(
    retry=tenacity.retry_if_exception_type(TransientError),
    stop=tenacity.stop_after_delay(_TIMEOUT_S),
    wait=tenacity.wait_fixed(0.2),
    reraise=True,
)
"""A broker that has just started answers, but is still to learn who leads a partition or coordinates a group."""


class PartitionLag(Struct, frozen=True, kw_only=True):
    """How far a group is behind in a partition."""

    group: str
    topic: str
    partition: int
    committed: int | None
    """Next offset to read; `None` if nothing was ever committed."""
    end: int
    lag: int
    """Records between the committed position, or the oldest record, and the end."""
    behind_s: float | None
    """Age of the record at the committed position, 0 without a lag; `None` if the record could not be read in time."""


class TopicSize(Struct, frozen=True, kw_only=True):
    """What a topic holds."""

    topic: str
    partitions: int
    """0 if the topic does not exist."""
    records: int
    """Offsets between the oldest record and the end; in a compacted topic fewer records are left."""


def read_lag(kafka: KafkaAccess, groups: Mapping[str, Sequence[str]] = GROUPS) -> list[PartitionLag]:
    """Return the lag of groups in every partition of their topics.

    Parameters
    ----------
    kafka
        Where Kafka is and how to get in.
    groups
        Consumer groups and what each one reads.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    return [part for group, topics in groups.items() for part in _group_lag(kafka, group, topics)]


def read_topics(kafka: KafkaAccess) -> list[TopicSize]:
    """Return what each of streamrec's topics holds.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    names = [topic.name for topic in TOPICS]
    with closing(open_observer(kafka)) as observer:
        sources = partitions_of(observer, names)
        starts, ends = start_offsets(observer, sources), end_offsets(observer, sources)
    partitions = Counter(source.topic for source in sources)
    records: Counter[str] = Counter()
    for source in sources:
        records[source.topic] += ends[source] - starts[source]
    return [TopicSize(topic=name, partitions=partitions[name], records=records[name]) for name in names]


def open_observer(kafka: KafkaAccess, group: str = "streamrec-observer", *, patience_ms: int = 0) -> Consumer:
    """Return a consumer that looks at partitions and joins no group; see `patience` in `client`."""
    return Consumer(
        client_config(kafka)
        | {
            "group.id": group,  # never joined: its commits are read, and partitions are assigned by hand
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
        }
        | patience(patience_ms)
    )


def partitions_of(observer: Consumer, topics: Sequence[str]) -> list[TopicPartition]:
    """Return all partitions of those topics that exist."""
    try:
        known = observer.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as error:
        raise translate_exception(error, observer) from error
    return [
        TopicPartition(topic, part) for topic in topics if topic in known for part in sorted(known[topic].partitions)
    ]


def start_offsets(observer: Consumer, sources: Sequence[TopicPartition]) -> Positions:
    """Return the offset of the oldest record of each partition, all in one request."""
    return _offsets(observer, sources, OFFSET_BEGINNING)


def end_offsets(observer: Consumer, sources: Sequence[TopicPartition]) -> Positions:
    """Return the offset that the next record of each partition gets, all in one request."""
    return _offsets(observer, sources, OFFSET_END)


@_while_starting
def _offsets(observer: Consumer, sources: Sequence[TopicPartition], which: int) -> Positions:
    """Ask for offsets by timestamp: the protocol has two timestamps that stand for the beginning and the end."""
    wanted = [KafkaPartition(*source, which) for source in sources]
    try:
        found = observer.offsets_for_times(wanted, timeout=_TIMEOUT_S) if wanted else []
    except KafkaException as error:
        raise translate_exception(error, observer) from error
    for part in found:
        if part.error is not None:
            raise translate(part.error)
    return {TopicPartition(part.topic, part.partition): part.offset for part in found}


def _group_lag(kafka: KafkaAccess, group: str, topics: Sequence[str]) -> list[PartitionLag]:
    with closing(open_observer(kafka, group)) as observer:
        sources = partitions_of(observer, topics)
        committed = committed_offsets(observer, sources)
        starts, ends = start_offsets(observer, sources), end_offsets(observer, sources)
        # what is gone from the topic is no lag; what is not committed is read from the beginning
        positions = {source: max(starts[source], committed.get(source, 0)) for source in sources}
        behind = {source: position for source, position in positions.items() if position < ends[source]}
        ages_s = _ages(observer, behind)
    return [
        PartitionLag(
            group=group,
            topic=source.topic,
            partition=source.partition,
            committed=committed.get(source),
            end=ends[source],
            lag=max(0, ends[source] - positions[source]),
            behind_s=ages_s.get(source) if source in behind else 0.0,
        )
        for source in sources
    ]


@_while_starting
def committed_offsets(observer: Consumer, sources: Sequence[TopicPartition]) -> Positions:
    """Return what the group that the observer was opened for has committed, of each partition where it has."""
    wanted = [KafkaPartition(*source) for source in sources]
    try:
        found = observer.committed(wanted, timeout=_TIMEOUT_S) if wanted else []
    except KafkaException as error:
        raise translate_exception(error, observer) from error
    return {TopicPartition(part.topic, part.partition): part.offset for part in found if part.offset >= 0}


def _ages(observer: Consumer, positions: Positions) -> dict[TopicPartition, float]:
    """Return the age in seconds of the record at each position, of those that can be read in time."""
    ages_s: dict[TopicPartition, float] = {}
    if not positions:
        return ages_s
    observer.assign([KafkaPartition(*source, offset) for source, offset in positions.items()])
    end_s = time.monotonic() + _TIMEOUT_S
    while len(ages_s) < len(positions) and (left_s := end_s - time.monotonic()) > 0:
        message = observer.poll(left_s)
        if message is None or message.error() is not None:
            continue
        source = TopicPartition(str(message.topic()), int(message.partition() or 0))
        if source not in ages_s:
            ages_s[source] = round(max(0.0, time.time() - message.timestamp()[1] / 1_000), 3)
            observer.pause([KafkaPartition(*source)])
    return ages_s
