"""Reading a whole topic that every process needs: no group, from the start of what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException

from streamrec.adapters.kafka.client import client_config, to_kafka, to_record, to_source, translate_exception
from streamrec.adapters.kafka.lifeline import Lifeline
from streamrec.errors import TransientError
from streamrec.service.batch import Batch, Slice, TopicPartition
from streamrec.settings import KafkaAccess

MAX_BATCH_RECORDS = 500
PREFETCH_KILOBYTES = 16_384
_TIMEOUT_S = 30.0
_END: Any = KafkaError._PARTITION_EOF  # noqa: SLF001  # librdkafka's own codes have no other name


class BroadcastReader:
    """Reads every partition of some topics from the beginning and then follows them.

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
        self._next: dict[TopicPartition, int] = {}
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
        self._consumer.assign(partitions)

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there when the reading began has been read."""
        return not self._behind

    def poll(self, timeout_s: float) -> Batch | None:
        """Wait for records and return all that have arrived, or `None` if there was none in time.

        Raises
        ------
        StreamrecError
            If the consumer has forgotten every broker.
        """
        first = self._consumer.poll(timeout_s)
        if first is None:
            self._lifeline.check()
            return None
        self._lifeline.heard()
        slices: dict[TopicPartition, Slice] = {}
        for message in [first, *self._consumer.consume(MAX_BATCH_RECORDS - 1, 0)]:
            source = to_source(self._kafka, message)
            error = message.error()
            if error is not None:
                if error.code() == _END:
                    self._behind.pop(source, None)
                continue  # librdkafka goes on by itself, and there is no position to lose
            record = to_record(message)
            part = slices.setdefault(source, Slice(source, record.offset, record.offset))
            part.records.append(record)
            part.next = record.offset + 1
            if part.next >= self._behind.get(source, part.next + 1):
                del self._behind[source]
        return Batch(list(slices.values())) if slices else None

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()
