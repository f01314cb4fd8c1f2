"""Committing positions to Kafka, for lag monitoring only."""

from __future__ import annotations

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import to_kafka, to_source
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Positions, TopicPartition

_log = structlog.get_logger(__name__)


class Commits:
    """Lets the consumer commit positions every second, and commits positions that moved back explicitly.

    librdkafka itself never commits an offset below the last committed one.

    Parameters
    ----------
    kafka
        Names of topics.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._were: dict[TopicPartition, int] = {}
        """The highest position that Kafka may have, for partitions that may be read again; at most one entry per
        partition."""

    def note(self, source: TopicPartition, was: int) -> None:
        """Record a position before a seek back."""
        self._were[source] = max(was, self._were.get(source, 0))

    def take(self, consumer: Consumer, positions: Positions) -> None:
        """Store processed offsets for commit, without waiting for Kafka; failures are retried with the next ones."""
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
        """Record committed offsets; called by the consumer."""
        if error is not None:
            return
        for part in partitions:
            source = to_source(self._kafka, part)
            if part.error is None and 0 <= part.offset < self._were.get(source, 0):
                del self._were[source]
