"""Producing records and waiting for acknowledgements."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamrec.adapters.kafka.client import RECONNECT_S, TOO_LARGE, client_config, explain, translate
from streamrec.adapters.kafka.lifeline import check_reach
from streamrec.adapters.kafka.limits import TopicLimits
from streamrec.errors import StreamrecError, TooLargeError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import fits, size_of

DELIVERY_TIMEOUT_S = 30

_MAX_BATCH_BYTES = 1_000_000
"""librdkafka's default. A batch is refused as a whole: it must fit the smallest limit of all topics, or hold one
record."""

_MAX_MESSAGE_BYTES = 1 << 26
"""Larger than any topic's limit: limits are checked in this module."""


class KafkaDelivery:
    """Records being sent to the broker by a producer."""

    def __init__(self, producer: Producer, kafka: KafkaAccess, limits: TopicLimits) -> None:
        self.producer = producer
        self._kafka = kafka
        self._limits = limits
        self._failures: list[tuple[KafkaError, str]] = []

    def note(self, error: KafkaError | None, message: Message) -> None:
        """Record the delivery report of a record."""
        if error is not None:
            self._failures.append((error, str(message.topic())))

    def wait(self) -> None:
        """Wait until the broker has acknowledged these and all earlier records of the producer.

        Raises
        ------
        TransientError
            If one was not acknowledged; some of them may have been written.
        StreamrecError
            If the producer has lost all brokers.
        """
        left = self.producer.flush(DELIVERY_TIMEOUT_S + 5)
        if self._failures:
            raise self._explained(*self._failures[0])
        if left:
            check_reach(self.producer, self._kafka)
            raise TransientError(f"Kafka: {left} records were not acknowledged in {DELIVERY_TIMEOUT_S} s")

    def _explained(self, failure: KafkaError, topic: str) -> StreamrecError:
        """Translate a delivery error: a timeout may be caused by a wrong password."""
        if failure.code() in TOO_LARGE:
            return self._limits.refused(topic)
        if failure.name() == "_MSG_TIMED_OUT":
            check_reach(self.producer, self._kafka)
            return explain(failure, self.producer, patience_s=RECONNECT_S + 1)
        return translate(failure)


class KafkaPublisher:
    """Publishes to Kafka, idempotently and acknowledged by all replicas.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    linger_ms
        How long records wait for more of them; :meth:`KafkaDelivery.wait` ends that.
    """

    def __init__(self, kafka: KafkaAccess, *, linger_ms: int = 0) -> None:
        self._kafka = kafka
        self._limits = TopicLimits(kafka)
        self._config = client_config(kafka) | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": linger_ms,
            "delivery.timeout.ms": DELIVERY_TIMEOUT_S * 1_000,
            "message.max.bytes": _MAX_MESSAGE_BYTES,
            "partitioner": "murmur2_random",
        }
        self._producer: Producer | None = None
        self._batch_bytes = 0

    def room(self, topic: str) -> int:
        """Return a topic's record size limit, in bytes as computed by :func:`size_of`.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """
        return self._limits.room(topic)

    def ask_again(self) -> None:
        """Clear the cached record size limits: they may have changed."""
        self._limits.forget()

    def start(self, records: Iterable[Outgoing]) -> KafkaDelivery:
        """Produce all of them without waiting for the broker; the first ones are sent while later ones are made.

        Raises
        ------
        TooLargeError
            If one does not fit its topic; those before it may have been written.
        TransientError
            If the broker does not answer.
        """
        delivery = KafkaDelivery(self._open(), self._kafka, self._limits)
        for record in records:
            if not fits(record, room := self.room(record.topic)):
                raise TooLargeError(
                    f"Kafka: {record.topic} limits records to {room:,} bytes, this one has {size_of(record):,}"
                )
            producer = self._open()
            if producer is not delivery.producer:  # this topic takes smaller batches
                delivery.wait()
                delivery = KafkaDelivery(producer, self._kafka, self._limits)
            self._produce(producer, record, delivery.note)
        return delivery

    def _open(self) -> Producer:
        """Return the producer, created once the batch size limit is known and again when that shrinks."""
        batch_bytes = min(_MAX_BATCH_BYTES, self._limits.smallest)
        if self._producer is None or batch_bytes < self._batch_bytes:
            self._producer, self._batch_bytes = Producer(self._config | {"batch.size": batch_bytes}), batch_bytes
        return self._producer

    def publish(self, records: Iterable[Outgoing]) -> None:
        """Produce all of them and return when the broker has acknowledged each one.

        Raises
        ------
        TooLargeError
            If one does not fit its topic; those before it may have been written.
        TransientError
            If one was not acknowledged; some of them may have been written.
        """
        self.start(records).wait()

    def _produce(self, producer: Producer, record: Outgoing, delivered: object) -> None:
        while True:
            try:
                producer.produce(
                    self._kafka.on_broker(record.topic),
                    key=record.key,
                    value=record.value,
                    headers=dict(record.headers),
                    timestamp=record.timestamp_ms,
                    on_delivery=delivered,  # type: ignore[arg-type]  # the stub requires its own protocol
                )
            except BufferError:
                # librdkafka's queue is full: process delivery reports until there is room
                producer.poll(0.1)
            except KafkaException as error:
                raise translate(error.args[0]) from error
            else:
                return
