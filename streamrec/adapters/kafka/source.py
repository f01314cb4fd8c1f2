"""Reading partitions in batches, from the positions that a store holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import (
    client_config,
    patience,
    to_kafka,
    to_record,
    to_source,
    translate,
    translate_exception,
)
from streamrec.adapters.kafka.lifeline import Lifeline
from streamrec.errors import StreamrecError, TransientError
from streamrec.service.batch import Batch, Positions, Slice, TopicPartition
from streamrec.settings import KafkaAccess

SESSION_TIMEOUT_MS = 6_000
"""How long a dead worker keeps its partitions; the least that brokers allow by default."""

MAX_BATCH_RECORDS = 1_000
"""Enough to spread the round trips of a batch thin; a batch is one record when the stream is quiet."""

PACE_S = 0.004
MAX_REST_S = 0.003
SMALL_BATCH_RECORDS = 16
"""After a small batch a reader rests as long as the batch took, so that the next one is larger: a record of a quiet
stream does not wait, and one of a busy stream costs a fraction. What larger batches and a longer rest save beyond that
is little."""

PREFETCH_KILOBYTES = 4_096
"""Several batches: what is ahead of them only takes memory when a store is away."""

_WATERMARKS_S = 10.0

_log = structlog.get_logger(__name__)


class BatchSource:
    """A consumer of a group that starts where the store says, not where Kafka's committed offset is.

    The batch adapts by itself: whatever has arrived, one record when the stream is quiet. Kafka's committed offset
    follows for lag monitoring only. One thread calls all methods.

    Parameters
    ----------
    kafka
        Where Kafka is and how to get in.
    group
        Consumer group.
    topics
        What to read. The range assignor gives a member the same partition numbers of each topic, so that one worker
        owns a user.
    positions
        Reads the next offset of each given partition from the store; one that is missing starts at the beginning.
    patience_ms
        How long the broker may hold records back until many are together.
    """

    def __init__(
        self,
        *,
        kafka: KafkaAccess,
        group: str,
        topics: Sequence[str],
        positions: Callable[[Sequence[TopicPartition]], Positions],
        patience_ms: int = 0,
    ) -> None:
        self._kafka = kafka
        self._positions = positions
        self._next: dict[TopicPartition, int | None] = {}
        self._starts: dict[TopicPartition, int] = {}
        self._arrived: list[Message] = []
        self._paused = False
        self._began_s: float | None = None
        """When the batch in flight began."""
        self._next_batch_s = 0.0
        self._consumer = Consumer(
            client_config(kafka)
            | {
                "group.id": kafka.on_broker(group),
                "partition.assignment.strategy": "range",
                "session.timeout.ms": SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 6,
                # what is stored as handled is committed every second, and on a rebalance
                "enable.auto.commit": True,
                "auto.commit.interval.ms": 1_000,
                "enable.auto.offset.store": False,
                # what a position has left of its log is looked at here, and told
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": PREFETCH_KILOBYTES,
                "fetch.queue.backoff.ms": 50,
                "topic.metadata.refresh.interval.ms": 10_000,
            }
            | patience(patience_ms)
        )
        self._lifeline = Lifeline(self._consumer, kafka)
        self._consumer.subscribe(
            [kafka.on_broker(topic) for topic in topics],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._revoked,
        )

    @property
    def sources(self) -> list[TopicPartition]:
        """What is assigned to this member now."""
        return list(self._next)

    def poll(self, timeout_s: float) -> Batch | None:
        """Wait for records and return all that have arrived, or `None` if there was none in time.

        Raises
        ------
        TransientError
            If the broker reports an error that librdkafka does not mend by itself.
        StreamrecError
            If the consumer has forgotten every broker.
        """
        self._resume()
        messages, self._arrived = self._arrived, []
        if not messages:
            first = self._consumer.poll(timeout_s)
            if first is None:
                self._lifeline.check()
                return None
            messages = [first]
            time.sleep(max(0.0, self._next_batch_s - time.monotonic()))
        self._lifeline.heard()
        self._began_s = time.monotonic()
        # consume() waits until it has all it was asked for or the time is over; with no time it takes what is there
        messages += self._consumer.consume(MAX_BATCH_RECORDS - len(messages), 0)
        if len(messages) >= SMALL_BATCH_RECORDS:
            self._began_s = None  # no rest
        return self._to_batch(messages)

    def settle(self, stored: Positions) -> None:
        """Take note of the store's positions after a batch, and go back or forth to where they differ from ours."""
        if self._began_s is not None:
            now_s = time.monotonic()
            self._next_batch_s = max(self._began_s + PACE_S, now_s + min(MAX_REST_S, now_s - self._began_s))
            self._began_s = None
        offsets = []
        for source, offset in stored.items():
            if source not in self._next:
                continue  # revoked meanwhile
            offsets.append(to_kafka(self._kafka, source, offset))
            if (self._next[source] or 0) != offset:
                _log.warning("seek", topic=source.topic, partition=source.partition, to=offset, was=self._next[source])
                self._next[source] = offset
                self._consumer.seek(to_kafka(self._kafka, source, offset))
        if offsets:
            self._consumer.store_offsets(offsets=offsets)

    def keep_alive(self) -> None:
        """Stay a member of the group while a batch takes long: nothing is read, rebalances are served."""
        assigned = self._consumer.assignment()
        if assigned:
            self._consumer.pause(assigned)
            self._paused = True
        message = self._consumer.poll(0)
        if message is not None:  # of a partition that was assigned just now
            self._arrived.append(message)

    def close(self) -> None:
        """Commit what was handled and leave the group."""
        self._consumer.close()

    def _resume(self) -> None:
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False

    def _to_batch(self, messages: Sequence[Message]) -> Batch | None:
        slices: dict[TopicPartition, Slice] = {}
        cut_off: list[TopicPartition] = []
        for message in messages:
            source = to_source(self._kafka, message)
            error = message.error()
            if error is not None:
                if error.code() == _CUT_OFF:
                    cut_off.append(source)
                else:
                    _raise_unless_passing(error)
                continue
            if source not in self._next:
                continue  # revoked meanwhile
            record = to_record(message)
            if record.offset < (self._next[source] or 0):
                continue  # handled already, by the owner before us
            part = slices.get(source)
            if part is None:
                start = self._next[source]
                if start is not None and record.offset > start:
                    self._report_lost(source, start)
                part = slices[source] = Slice(source, start or 0, record.offset)
            part.records.append(record)
            part.next = record.offset + 1
        for source, part in slices.items():
            self._next[source] = part.next
        if cut_off:
            self._go_on_without(cut_off)
        return Batch(list(slices.values())) if slices else None

    def _assigned(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        sources = [to_source(self._kafka, part) for part in partitions]
        stored = self._positions(sources)
        self._next = {source: stored.get(source) for source in sources}
        for source, offset in stored.items():
            # a broker that cannot tell now refuses what it no longer has when it is read
            with suppress(TransientError):
                self._check_position(source, offset)
        consumer.assign([self._at(source, offset) for source, offset in self._next.items()])
        consumer.resume(partitions)  # a pause outlives the assignment that it was made in
        _log.info("assigned", partitions=[f"{s.topic}:{s.partition}@{stored.get(s, 'start')}" for s in sources])

    def _revoked(self, _consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        # a batch is settled before the next poll, so nothing of these partitions is in flight here
        for part in partitions:
            self._next.pop(to_source(self._kafka, part), None)

    def _go_on_without(self, cut_off: Sequence[TopicPartition]) -> None:
        """Go on with what is left of partitions whose logs were cut off beyond our positions while we read them."""
        starts: dict[TopicPartition, int] = {}
        for source in cut_off:
            if source in self._next:  # else it was revoked meanwhile
                self._check_position(source, self._next[source] or 0)
                starts[source] = self._starts[source]
        # librdkafka takes no seek in a partition that it has given up, but a new assignment
        self._consumer.assign([self._at(source, starts.get(source, next_)) for source, next_ in self._next.items()])

    def _check_position(self, source: TopicPartition, offset: int) -> None:
        """Refuse a partition that is not the one that was read before, and say what it has lost since."""
        high = self._report_lost(source, offset)
        if offset > high:
            raise StreamrecError(
                f"{source.topic}:{source.partition} ends at {high}, yet it was read up to {offset}: "
                "the topic was made anew, or the broker lost records; start with empty stores, or with the right broker"
            )

    def _report_lost(self, source: TopicPartition, position: int) -> int:
        """Say loudly how many records from a position on the broker no longer has, once; answer the partition's end.

        Offsets are also missing where a topic is compacted or written in transactions, and nothing is lost then.
        """
        try:
            low, high = self._consumer.get_watermark_offsets(to_kafka(self._kafka, source), timeout=_WATERMARKS_S)
        except KafkaException as error:
            raise translate_exception(error, self._consumer) from error
        known = max(position, self._starts.get(source, 0))
        if low > known:
            _log.error(
                "records lost", topic=source.topic, partition=source.partition, count=low - known, position=position
            )
        self._starts[source] = max(low, known)
        return high

    def _at(self, source: TopicPartition, offset: int | None) -> KafkaPartition:
        return to_kafka(self._kafka, source, OFFSET_BEGINNING if offset is None else offset)


def _raise_unless_passing(error: KafkaError) -> None:
    if error.retriable() or error.code() in _PASSING:
        _log.warning("kafka", error=error.str())
        return
    raise translate(error)


# librdkafka's own codes have no other name
_CUT_OFF: Any = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_PASSING: frozenset[Any] = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
