"""Producing records and waiting until the broker has them."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamrec.adapters.kafka.client import RECONNECT_S, client_config, explain, translate
from streamrec.adapters.kafka.lifeline import check_reach
from streamrec.errors import StreamrecError, TransientError
from streamrec.service.ports import Outgoing
from streamrec.settings import KafkaAccess

DELIVERY_TIMEOUT_S = 30
_MAX_MESSAGE_BYTES = 2_000_000
"""More than a broker takes by default: a dead letter is a record of the largest size with headers on top."""


class KafkaDelivery:
    """Records on their way to the broker."""

    def __init__(self, producer: Producer, kafka: KafkaAccess) -> None:
        self._producer = producer
        self._kafka = kafka
        self._failures: list[KafkaError] = []

    def note(self, error: KafkaError | None, _message: Message) -> None:
        """Take note of what became of a record."""
        if error is not None:
            self._failures.append(error)

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
            raise self._explained(self._failures[0])
        if left:
            check_reach(self._producer, self._kafka)
            raise TransientError(f"Kafka: {left} records were not acknowledged in {DELIVERY_TIMEOUT_S} s")

    def _explained(self, failure: KafkaError) -> StreamrecError:
        """Return our error for a record that was not acknowledged: if it timed out, the password may be wrong."""
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
        self._producer = Producer(
            client_config(kafka)
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "delivery.timeout.ms": DELIVERY_TIMEOUT_S * 1_000,
                "message.max.bytes": _MAX_MESSAGE_BYTES,
                "partitioner": "murmur2_random",
            }
        )

    def start(self, records: Sequence[Outgoing]) -> KafkaDelivery:
        """Produce all of them and return at once, for work that may be done meanwhile."""
        delivery = KafkaDelivery(self._producer, self._kafka)
        for record in records:
            self._produce(record, delivery.note)
        return delivery

    def publish(self, records: Sequence[Outgoing]) -> None:
        """Produce all of them and return when the broker has acknowledged each one.

        Raises
        ------
        TransientError
            If one was not acknowledged; some of them may have been written.
        """
        self.start(records).wait()

    def _produce(self, record: Outgoing, delivered: object) -> None:
        while True:
            try:
                self._producer.produce(
                    self._kafka.on_broker(record.topic),
                    key=record.key,
                    value=record.value,
                    headers=dict(record.headers),
                    timestamp=record.timestamp_ms,
                    on_delivery=delivered,  # type: ignore[arg-type]  # the stub wants its own protocol
                )
            except BufferError:
                # librdkafka's queue is full: serve deliveries until there is room
                self._producer.poll(0.1)
            except KafkaException as error:
                raise translate(error.args[0]) from error
            else:
                return
