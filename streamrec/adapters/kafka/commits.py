"""Committing positions to Kafka, where they are for lag monitoring only."""

from __future__ import annotations

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import to_kafka, to_source
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Positions, TopicPartition

_log = structlog.get_logger(__name__)


class Commits:
    """Has the consumer commit positions every second, and commits explicitly those that went back.

    By itself librdkafka commits no offset below the last one that it committed.

    Parameters
    ----------
    kafka
        Names topics.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._were: dict[TopicPartition, int] = {}
        """The highest position that Kafka may have, where it may be read again; an entry per partition at most."""

    def note(self, source: TopicPartition, was: int) -> None:
        """Take note of a position that a seek back leaves behind, or that reading may not return to."""
        self._were[source] = max(was, self._were.get(source, 0))

    def take(self, consumer: Consumer, positions: Positions) -> None:
        """Take what has been handled, without waiting for Kafka; what cannot be taken now comes again."""
        handled = [to_kafka(self._kafka, source, offset) for source, offset in positions.items()]
        for source, offset in positions.items():
            if offset >= self._were.get(source, 0):
                self._were.pop(source, None)
        lower = [to_kafka(self._kafka, source, offset) for source, offset in positions.items() if source in self._were]
        try:
            if handled:
                consumer.store_offsets(offsets=handled)
            if lower:
                consumer.commit(offsets=lower, asynchronous=True)
        except KafkaException as error:
            _log.warning("not committed yet", because=str(error))

    def committed(self, error: KafkaError | None, partitions: list[KafkaPartition]) -> None:
        """Take note of what Kafka has committed; the consumer calls it."""
        if error is not None:
            return
        for part in partitions:
            source = to_source(self._kafka, part)
            if part.error is None and 0 <= part.offset < self._were.get(source, 0):
                del self._were[source]
