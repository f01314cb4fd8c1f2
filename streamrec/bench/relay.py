"""A no-op hop: `python -m streamrec.bench.relay TOPIC TARGET` forwards records.

The target is a topic, or Redis if it ends with a colon: values are set under that prefix plus the record's key.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, Message, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import client_config
from streamrec.adapters.redis.client import connect
from streamrec.settings import Settings

_TOGETHER = 500

Pass = Callable[[Sequence[Message]], object]


def relay(settings: Settings, topic: str, target: str) -> None:
    """Forward all records of a topic indefinitely."""
    consumer = Consumer(client_config(settings.require_kafka()) | {"group.id": f"relay-{topic}"})
    consumer.assign([KafkaPartition(topic, partition, 0) for partition in range(settings.partitions)])
    pass_on = _to_redis(settings, target) if target.endswith(":") else _to_topic(settings, target)
    while True:
        first = consumer.poll(1.0)
        if first is not None:
            came = [first, *consumer.consume(_TOGETHER - 1, 0.0)]
            pass_on([message for message in came if message.error() is None])


def _to_topic(settings: Settings, topic: str) -> Pass:
    producer = Producer(
        client_config(settings.require_kafka())
        | {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 0}
    )

    def pass_on(messages: Sequence[Message]) -> None:
        for message in messages:
            producer.produce(topic, key=message.key(), value=message.value())
        producer.flush()

    return pass_on


def _to_redis(settings: Settings, prefix: str) -> Pass:
    redis = connect(settings.require_redis_url())

    def pass_on(messages: Sequence[Message]) -> None:
        pipeline = redis.pipeline(transaction=False)
        for message in messages:
            key, value = message.key(), message.value()
            assert isinstance(key, bytes)
            assert isinstance(value, bytes)
            pipeline.set(prefix + key.decode(), value)
        pipeline.execute()

    return pass_on


if __name__ == "__main__":
    relay(Settings.from_env(), *sys.argv[1:])
