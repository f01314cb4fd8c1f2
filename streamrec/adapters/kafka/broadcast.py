"""Reading a whole topic that every process needs: no group, from the start of what is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message

from streamrec.adapters.kafka.client import (
    UNREADABLE,
    client_config,
    to_kafka,
    to_source,
    translate,
    translate_exception,
)
from streamrec.adapters.kafka.gathering import Gathering, edges, send_to
from streamrec.adapters.kafka.lifeline import Lifeline
from streamrec.adapters.kafka.unreadable import Search
from streamrec.errors import TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Batch, Slice, TopicPartition

MAX_BATCH_RECORDS = 500
PREFETCH_KILOBYTES = 16_384
_TIMEOUT_S = 30.0
_END: Any = KafkaError._PARTITION_EOF  # noqa: SLF001  # librdkafka's own codes have no other name

_log = structlog.get_logger(__name__)


class BroadcastReader:
    """Reads every partition of some topics from the beginning and then follows them, also where they are made anew.

    One thread calls all methods.

    Parameters
    ----------
    kafka
        Where Kafka is and how to get in.
    topics
        What to read.

    Raises
    ------
    TransientError
        If the broker does not answer, or a topic does not exist yet.
    """

    def __init__(self, *, kafka: KafkaAccess, topics: Sequence[str]) -> None:
        self._kafka = kafka
        self._consumer = Consumer(
            client_config(kafka)
            | {
                "group.id": kafka.on_broker("streamrec-broadcast"),  # never joined: partitions are assigned by hand
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # what is last in a log may be no record but the mark of a transaction
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": PREFETCH_KILOBYTES,
                "fetch.queue.backoff.ms": 50,
            }
        )
        self._lifeline = Lifeline(self._consumer, kafka)
        self._behind: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int | None] = {}
        self._arrived: list[Message] = []
        self._searches: dict[TopicPartition, Search] = {}
        self._seeks: dict[TopicPartition, int] = {}
        self.refused: Counter[tuple[str, str]] = Counter()
        """Records that could not be read since it was looked at last, by topic and reason."""
        try:
            self._assign(topics)
        except KafkaException as error:
            raise translate_exception(error, self._consumer) from error

    def _assign(self, topics: Sequence[str]) -> None:
        partitions = []
        for topic in topics:
            name = self._kafka.on_broker(topic)
            metadata = self._consumer.list_topics(name, timeout=_TIMEOUT_S).topics[name]
            if not metadata.partitions:
                raise TransientError(f"topic {name} does not exist yet")
            for number in metadata.partitions:
                source = TopicPartition(topic, number)
                partition = to_kafka(self._kafka, source, OFFSET_BEGINNING)
                low, high = self._consumer.get_watermark_offsets(partition, timeout=_TIMEOUT_S)
                if low < high:
                    self._behind[source] = high
                partitions.append(partition)
                self._next[source] = None
        self._consumer.assign(partitions)

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there when the reading began has been read."""
        return not self._behind

    def poll(self, timeout_s: float) -> Batch | None:
        """Wait for records and return all that have arrived, or `None` if there was none in time.

        Records that the client cannot read are counted as `refused` and left out; reading continues behind them.

        Raises
        ------
        TransientError
            If the broker does not say what it has; the next call returns what arrived meanwhile.
        StreamrecError
            If the client can never read again.
        """
        self._receive(timeout_s)
        if not self._arrived:
            self._lifeline.check()
            if not self._searches:
                return None
        found = Gathering(
            self._kafka,
            self._next,
            self._searches,
            self._seeks,
            report_lost=None,
            edges=partial(edges, self._kafka, self._consumer),
        )
        found.take(message for message in self._arrived if not _is_end(message))
        ends = [to_source(self._kafka, message) for message in self._arrived if _is_end(message)]
        self._arrived, self._searches, self._seeks = [], found.searches, found.seeks
        send_to(self._kafka, self._consumer, self._seeks)
        for source, because in found.stopped.items():
            _log.error("partition stopped", topic=source.topic, partition=source.partition, because=because)
        for source, part in found.slices.items():
            self._next[source] = part.next
            if part.next >= self._behind.get(source, part.next + 1):
                ends.append(source)
        for source in ends:
            self._behind.pop(source, None)
        return self._readable(found.slices.values())

    def _receive(self, timeout_s: float) -> None:
        try:
            if not self._arrived:
                first = self._consumer.poll(timeout_s)
                if first is None:
                    return
                self._arrived.append(first)
            self._lifeline.heard()
            self._arrived += self._consumer.consume(max(1, MAX_BATCH_RECORDS - len(self._arrived)), 0)
        except KafkaException as error:
            raise translate(error.args[0]) from error

    def _readable(self, slices: Iterable[Slice]) -> Batch | None:
        kept = []
        for part in slices:
            records = [record for record in part.records if record.fault is None or record.fault.reason != UNREADABLE]
            if len(records) < len(part.records):
                self.refused[part.source.topic, UNREADABLE] += len(part.records) - len(records)
            if records:
                kept.append(Slice(part.source, part.start, part.next, records))
        return Batch(kept) if kept else None

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == _END
