"""Consumer lag and topic sizes, read from the broker without joining a group."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache

import numpy as np
import tenacity
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from msgspec import Struct

from streamrec.adapters.kafka.client import client_config, patience, translate, translate_exception
from streamrec.adapters.kafka.group_lag import GroupLag, Lag, PartitionLag
from streamrec.adapters.kafka.members import GroupMembers
from streamrec.adapters.kafka.offsets import END, START, OffsetReader, Partitions
from streamrec.adapters.kafka.record_times import RecordTimes
from streamrec.contracts.topics import EVENT_TOPICS, IMPRESSIONS, RECOMMENDATIONS, TOPICS, USER_INTERESTS
from streamrec.errors import TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Positions, TopicPartition

GROUPS: Mapping[str, Sequence[str]] = {
    "streamrec-interests": EVENT_TOPICS,
    "streamrec-trainer": (USER_INTERESTS,),
    "streamrec-recall": (USER_INTERESTS,),
    "streamrec-retention": (*EVENT_TOPICS, RECOMMENDATIONS, IMPRESSIONS),
}
"""The workers' consumer groups and their topics."""

_TIMEOUT_S = 10.0
_TIMES_ONCE = 10_000
"""For a single read, which cannot read the rest later."""

when_loaded = tenacity.retry(
    retry=tenacity.retry_if_exception_type(TransientError),
    stop=tenacity.stop_after_delay(_TIMEOUT_S),
    wait=tenacity.wait_fixed(0.2),
    reraise=True,
)
"""A broker that has just started answers before it knows partition leaders and group coordinators."""


class TopicSize(Struct, frozen=True, kw_only=True):
    """Size of a topic."""

    topic: str
    """Its name on the broker."""
    partitions: int
    """0 if the topic does not exist."""
    records: int
    """Offsets between the oldest record and the last stable offset, including compacted records and transaction
    markers."""


class LagReader:
    """Reads the lag of groups repeatedly; must be created and used in the same event loop.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    groups
        Consumer groups and their topics, whether or not they have committed yet.
    others
        Whether to read all other groups on the broker, too, if they have committed.
    times_a_read
        Number of record times to look up per read; the others are left for the next reads.
    """

    def __init__(
        self,
        kafka: KafkaAccess,
        groups: Mapping[str, Sequence[str]] = GROUPS,
        *,
        others: bool = False,
        times_a_read: int = 128,
    ) -> None:
        self._groups = groups
        self._others = others
        self._offsets = OffsetReader(kafka)
        self._members = GroupMembers(kafka)
        self._times = RecordTimes(kafka, at_most=times_a_read)
        self._held_times = cache(lambda: RecordTimes(kafka, at_most=times_a_read, committed=False))
        """Created only if a transaction is open: a consumer takes memory."""

    async def close(self) -> None:
        """Close all connections."""
        await self._offsets.close()
        await self._members.close()
        await asyncio.to_thread(self._times.close)
        if self._held_times.cache_info().currsize:
            await asyncio.to_thread(self._held_times().close)

    async def read(self) -> Lag:
        """Return the lag of every group in every partition that it reads.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """
        partitions = await self._offsets.partitions()
        await self._members.refresh(list(self._groups), others=self._others)
        committed = {name: await self._offsets.committed(name) for name in self._members.counts}
        start, high = await self._offsets.edges(START), await self._offsets.edges(END, stable=False)
        # the end is read last: so committed offsets are never beyond it, and new records do not count as withheld
        end = await self._offsets.edges(END)
        lag = Lag(time.time_ns() // 1_000_000, partitions, start, end)
        lag.high = np.maximum(high, end)
        for name, members in self._members.counts.items():
            reads = committed[name] >= 0
            reads[partitions.of(self._groups.get(name, ()))] = True
            index = np.flatnonzero(reads)
            lag.groups[name] = GroupLag(
                index,
                committed[name][index],
                start[index],
                end[index],
                np.full(len(index), -1, np.int64),
                members,
                self._unassigned(name, partitions),
            )
        positions = {name: (group.index, group.position, group.end) for name, group in lag.groups.items()}
        found = await asyncio.to_thread(self._times.look_up, partitions, positions)
        for name, group in lag.groups.items():
            group.first_left, group.since_ms = found[name]
        await self._look_at_what_is_held_back(lag)
        return lag

    def _unassigned(self, name: str, partitions: Partitions) -> list[TopicPartition]:
        """Return the unassigned partitions of a group's topics, empty if unknown."""
        assigned = self._members.assigned.get(name)
        if assigned is None:
            return []
        of_group = (partitions.sources[at] for at in partitions.of(self._groups.get(name, ())).tolist())
        return [source for source in of_group if source not in assigned]

    async def _look_at_what_is_held_back(self, lag: Lag) -> None:
        held = lag.high > lag.end
        if held.any():
            every = np.arange(len(held))
            found = await asyncio.to_thread(
                self._held_times().look_up, lag.partitions, {"": (every, lag.end, np.where(held, lag.high, lag.end))}
            )
            lag.held_since_ms = found[""][1]


def look_at_lag(kafka: KafkaAccess, groups: Mapping[str, Sequence[str]] = GROUPS) -> Lag:
    """Read the lag of groups once, with the age of all waiting records.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    groups
        Consumer groups and what each one reads.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """

    async def look() -> Lag:
        reader = LagReader(kafka, groups, times_a_read=_TIMES_ONCE)
        try:
            return await when_loaded(reader.read)()
        finally:
            await reader.close()

    return asyncio.run(look())


def read_lag(kafka: KafkaAccess, groups: Mapping[str, Sequence[str]] = GROUPS) -> list[PartitionLag]:
    """Read the lag of groups in every partition of their topics once; see :func:`look_at_lag`."""
    lag = look_at_lag(kafka, groups)
    return [part for group in groups for part in lag.of(group)]


def read_topics(kafka: KafkaAccess) -> list[TopicSize]:
    """Return the size of each of streamrec's topics.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    names = [kafka.on_broker(topic.name) for topic in TOPICS]
    with closing(open_observer(kafka)) as observer:
        sources = partitions_of(observer, names)
        starts, ends = start_offsets(observer, sources), end_offsets(observer, sources)
    partitions = Counter(source.topic for source in sources)
    records: Counter[str] = Counter()
    for source in sources:
        records[source.topic] += ends[source] - starts[source]
    return [TopicSize(topic=name, partitions=partitions[name], records=records[name]) for name in names]


def open_observer(kafka: KafkaAccess, group: str = "streamrec-observer", *, patience_ms: int = 0) -> Consumer:
    """Return a consumer that reads partitions without joining a group; see `patience` in `client`."""
    return Consumer(
        client_config(kafka)
        | {
            "group.id": kafka.on_broker(
                group
            ),  # never joined: only its commits are read, and partitions are assigned manually
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
        }
        | patience(patience_ms)
    )


def partitions_of(observer: Consumer, topics: Sequence[str]) -> list[TopicPartition]:
    """Return all partitions of the existing topics."""
    try:
        known = observer.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as error:
        raise translate_exception(error, observer) from error
    return [
        TopicPartition(topic, part) for topic in topics if topic in known for part in sorted(known[topic].partitions)
    ]


def start_offsets(observer: Consumer, sources: Sequence[TopicPartition]) -> Positions:
    """Return the start offset of each partition, in one request."""
    return _offsets(observer, sources, OFFSET_BEGINNING)


def end_offsets(observer: Consumer, sources: Sequence[TopicPartition]) -> Positions:
    """Return the last stable offset of each partition, the end of committed records, in one request."""
    return _offsets(observer, sources, OFFSET_END)


@when_loaded
def _offsets(observer: Consumer, sources: Sequence[TopicPartition], which: int) -> Positions:
    """List offsets by timestamp: the protocol has special timestamps for the beginning and the end."""
    wanted = [KafkaPartition(*source, which) for source in sources]
    try:
        found = observer.offsets_for_times(wanted, timeout=_TIMEOUT_S) if wanted else []
    except KafkaException as error:
        raise translate_exception(error, observer) from error
    for part in found:
        if part.error is not None:
            raise translate(part.error)
    return {TopicPartition(part.topic, part.partition): part.offset for part in found}


@when_loaded
def committed_offsets(observer: Consumer, sources: Sequence[TopicPartition]) -> Positions:
    """Return the committed offsets of the observer's group."""
    wanted = [KafkaPartition(*source) for source in sources]
    try:
        found = observer.committed(wanted, timeout=_TIMEOUT_S) if wanted else []
    except KafkaException as error:
        raise translate_exception(error, observer) from error
    return {TopicPartition(part.topic, part.partition): part.offset for part in found if part.offset >= 0}
