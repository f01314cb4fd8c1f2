"""Producing records and waiting until the broker has them."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamrec.adapters.kafka.client import RECONNECT_S, TOO_LARGE, client_config, explain, translate
from streamrec.adapters.kafka.lifeline import check_reach
from streamrec.adapters.kafka.limits import TopicLimits
from streamrec.errors import StreamrecError, TooLargeError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import size_of

DELIVERY_TIMEOUT_S = 30

_MAX_BATCH_BYTES = 1_000_000
"""librdkafka's own default. A batch is refused as one: it must fit the topic that takes least, or hold one record."""

_MAX_MESSAGE_BYTES = 1 << 26
"""Far beyond every topic: the limits of topics are looked at here."""


class KafkaDelivery:
    """Records on their way to the broker."""

    def __init__(self, producer: Producer, kafka: KafkaAccess, limits: TopicLimits) -> None:
        self._producer = producer
        self._kafka = kafka
        self._limits = limits
        self._failures: list[tuple[KafkaError, str]] = []

    def note(self, error: KafkaError | None, message: Message) -> None:
        """Take note of what became of a record."""
        if error is not None:
            self._failures.append((error, str(message.topic())))

    def wait(self) -> None:
        """Return when the broker has acknowledged each one, and whatever else the producer was given.

        Raises
        ------
        TransientError
            If one was not acknowledged; some of them may have been written.
        StreamrecError
            If the producer has forgotten every broker.
        """
        left = self._producer.flush(DELIVERY_TIMEOUT_S + 5)
        if self._failures:
            raise self._explained(*self._failures[0])
        if left:
            check_reach(self._producer, self._kafka)
            raise TransientError(f"Kafka: {left} records were not acknowledged in {DELIVERY_TIMEOUT_S} s")

    def _explained(self, failure: KafkaError, topic: str) -> StreamrecError:
        """Return our error for a record that was not acknowledged: if it timed out, the password may be wrong."""
        if failure.code() in TOO_LARGE:
            return self._limits.refused(topic)
        if failure.name() == "_MSG_TIMED_OUT":
            check_reach(self._producer, self._kafka)
            return explain(failure, self._producer, patience_s=RECONNECT_S + 1)
        return translate(failure)


class KafkaPublisher:
    """Publishes to Kafka, idempotently and acknowledged by all replicas.

    Parameters
    ----------
    kafka
        Where Kafka is and how to get in.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._limits = TopicLimits(kafka)
        self._config = client_config(kafka) | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "delivery.timeout.ms": DELIVERY_TIMEOUT_S * 1_000,
            "message.max.bytes": _MAX_MESSAGE_BYTES,
            "partitioner": "murmur2_random",
        }
        self._producer: Producer | None = None
        self._batch_bytes = 0

    def room(self, topic: str) -> int:
        """Return the size of the largest record that a topic takes, in bytes as :func:`size_of` counts them.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """
        return self._limits.room(topic)

    def ask_again(self) -> None:
        """Forget how large records may be: somebody may have changed it."""
        self._limits.forget()

    def start(self, records: Sequence[Outgoing]) -> KafkaDelivery:
        """Produce all of them and return at once, for work that may be done meanwhile.

        Raises
        ------
        TooLargeError
            If one does not fit its topic; none was sent.
        TransientError
            If the broker does not answer.
        """
        for record in records:
            if (size := size_of(record)) > (room := self.room(record.topic)):
                raise TooLargeError(f"Kafka: {record.topic} takes records of {room:,} bytes, this one has {size:,}")
        producer = self._open()
        delivery = KafkaDelivery(producer, self._kafka, self._limits)
        for record in records:
            self._produce(producer, record, delivery.note)
        return delivery

    def _open(self) -> Producer:
        """Return the producer; it is made when it is known how large a batch may be, and anew when that shrinks."""
        batch_bytes = min(_MAX_BATCH_BYTES, self._limits.smallest)
        if self._producer is None or batch_bytes < self._batch_bytes:
            self._producer, self._batch_bytes = Producer(self._config | {"batch.size": batch_bytes}), batch_bytes
        return self._producer

    def publish(self, records: Sequence[Outgoing]) -> None:
        """Produce all of them and return when the broker has acknowledged each one.

        Raises
        ------
        TooLargeError
            If one does not fit its topic; none was sent.
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
                    on_delivery=delivered,  # type: ignore[arg-type]  # the stub wants its own protocol
                )
            except BufferError:
                # librdkafka's queue is full: serve deliveries until there is room
                producer.poll(0.1)
            except KafkaException as error:
                raise translate(error.args[0]) from error
            else:
                return
