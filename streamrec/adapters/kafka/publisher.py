"""Producing records and waiting until the broker has them."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamrec.adapters.kafka.client import client_config, translate, translate_exception
from streamrec.errors import TransientError
from streamrec.service.ports import Outgoing

DELIVERY_TIMEOUT_S = 30
_MAX_MESSAGE_BYTES = 2_000_000
"""More than a broker takes by default: a dead letter is a record of the largest size with headers on top."""


class KafkaPublisher:
    """Publishes to Kafka, idempotently and acknowledged by all replicas.

    Parameters
    ----------
    bootstrap
        Kafka bootstrap servers.
    """

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            client_config(bootstrap)
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "delivery.timeout.ms": DELIVERY_TIMEOUT_S * 1_000,
                "message.max.bytes": _MAX_MESSAGE_BYTES,
                "partitioner": "murmur2_random",
            }
        )

    def publish(self, records: Sequence[Outgoing]) -> None:
        """Produce all of them and return when the broker has acknowledged each one.

        Raises
        ------
        TransientError
            If one was not acknowledged; some of them may have been written.
        """
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        for record in records:
            self._produce(record, delivered)
        left = self._producer.flush(DELIVERY_TIMEOUT_S + 5)
        if failures:
            raise translate(failures[0])
        if left:
            raise TransientError(f"Kafka: {left} records were not acknowledged in {DELIVERY_TIMEOUT_S} s")

    def _produce(self, record: Outgoing, delivered: object) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic,
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
                raise translate_exception(error) from error
            else:
                return
