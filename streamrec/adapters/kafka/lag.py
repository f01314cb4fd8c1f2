"""How far the workers are behind, and what is in the topics: read from the broker alone, without joining a group."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from msgspec import Struct

from streamrec.adapters.kafka.client import client_config, translate_exception
from streamrec.contracts.topics import CLICKS, IMPRESSIONS, PURCHASES, RECOMMENDATIONS, TOPICS, USER_INTERESTS

GROUPS: Mapping[str, Sequence[str]] = {
    "streamrec-interests": (CLICKS, PURCHASES),
    "streamrec-trainer": (USER_INTERESTS,),
    "streamrec-recall": (USER_INTERESTS,),
    "streamrec-retention": (CLICKS, PURCHASES, RECOMMENDATIONS, IMPRESSIONS),
}
"""The workers' consumer groups and what each one reads."""

_TIMEOUT_S = 10.0


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


def read_lag(bootstrap: str, groups: Mapping[str, Sequence[str]] = GROUPS) -> list[PartitionLag]:
    """Return the lag of groups in every partition of their topics.

    Parameters
    ----------
    bootstrap
        Kafka bootstrap servers.
    groups
        Consumer groups and what each one reads.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    try:
        return [part for group, topics in groups.items() for part in _group_lag(bootstrap, group, topics)]
    except KafkaException as error:
        raise translate_exception(error) from error


def read_topics(bootstrap: str) -> list[TopicSize]:
    """Return what each of streamrec's topics holds.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    try:
        with closing(_open(bootstrap, "streamrec-topics")) as consumer:
            existing = _partitions(consumer, [topic.name for topic in TOPICS])
            held = {
                name: [high - low for low, high in (_range(consumer, name, part) for part in existing.get(name, []))]
                for name in (topic.name for topic in TOPICS)
            }
    except KafkaException as error:
        raise translate_exception(error) from error
    return [TopicSize(topic=name, partitions=len(sizes), records=sum(sizes)) for name, sizes in held.items()]


def _open(bootstrap: str, group: str) -> Consumer:
    return Consumer(
        client_config(bootstrap)
        | {
            "group.id": group,  # never joined: its commits are read, and partitions are assigned by hand
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )


def _partitions(consumer: Consumer, topics: Sequence[str]) -> dict[str, list[int]]:
    known = consumer.list_topics(timeout=_TIMEOUT_S).topics
    return {topic: sorted(known[topic].partitions) for topic in topics if topic in known}


def _range(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    low, high = consumer.get_watermark_offsets(KafkaPartition(topic, partition), timeout=_TIMEOUT_S)
    return low, high


def _group_lag(bootstrap: str, group: str, topics: Sequence[str]) -> list[PartitionLag]:
    with closing(_open(bootstrap, group)) as consumer:
        wanted = [
            KafkaPartition(topic, part) for topic, parts in _partitions(consumer, topics).items() for part in parts
        ]
        found = []
        positions = {}
        for part in consumer.committed(wanted, timeout=_TIMEOUT_S):
            low, end = _range(consumer, part.topic, part.partition)
            committed = None if part.offset == OFFSET_INVALID else part.offset
            position = max(low, committed or 0)
            if position < end:
                positions[part.topic, part.partition] = position
            found.append((part.topic, part.partition, committed, end, max(0, end - position)))
        ages_s = _ages(consumer, positions)
    return [
        PartitionLag(
            group=group,
            topic=topic,
            partition=partition,
            committed=committed,
            end=end,
            lag=lag,
            behind_s=ages_s.get((topic, partition)) if lag else 0.0,
        )
        for topic, partition, committed, end, lag in found
    ]


def _ages(consumer: Consumer, positions: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], float]:
    """Return the age in seconds of the record at each position, of those that can be read in time."""
    ages_s: dict[tuple[str, int], float] = {}
    if not positions:
        return ages_s
    consumer.assign([KafkaPartition(topic, part, offset) for (topic, part), offset in positions.items()])
    end_s = time.monotonic() + _TIMEOUT_S
    while len(ages_s) < len(positions) and (left_s := end_s - time.monotonic()) > 0:
        message = consumer.poll(left_s)
        if message is None or message.error() is not None:
            continue
        source = (str(message.topic()), int(message.partition() or 0))
        if source not in ages_s:
            ages_s[source] = round(max(0.0, time.time() - message.timestamp()[1] / 1_000), 3)
            consumer.pause([KafkaPartition(*source)])
    return ages_s
