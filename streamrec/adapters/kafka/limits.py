"""Record size limits of topics, from the broker."""

from __future__ import annotations

import time

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from streamrec.adapters.kafka.client import RECONNECT_S, client_config, explain
from streamrec.contracts.topics import BROKER_MAX_MESSAGE_BYTES, TOPICS
from streamrec.errors import StreamrecError, TransientError
from streamrec.kafka_access import KafkaAccess

MAX_MESSAGE_BYTES = "max.message.bytes"

LEAST_ROOM_BYTES = 1_024
"""Smallest limit to try."""

_TIMEOUT_S = 3.0

_ABSENT_S = 1.0
"""A missing topic is asked for again after this long; a batch asks for each of its records."""

_log = structlog.get_logger(__name__)


class TopicLimits:
    """Caches the record size limits of topics.

    If the broker does not report limits (no admin API, or no permission to describe topics), Kafka's default is used.
    If it refuses a record within the reported limit, the limit is reduced.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._limits: dict[str, int] = {}
        """Limits by the broker's name of a topic."""
        self._absent_until_s: dict[str, float] = {}

    def room(self, topic: str) -> int:
        """Return the record size limit of a topic, in bytes, overhead included.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """
        return self._room(self._kafka.on_broker(topic))

    def _room(self, name: str) -> int:
        if name not in self._limits and time.monotonic() >= self._absent_until_s.get(name, 0.0):
            self._limits = self._read(name) | self._limits
            if name not in self._limits:
                self._absent_until_s[name] = time.monotonic() + _ABSENT_S
        return self._limits.get(name, BROKER_MAX_MESSAGE_BYTES)

    @property
    def smallest(self) -> int:
        """The smallest limit of any topic."""
        return min(self._limits.values(), default=BROKER_MAX_MESSAGE_BYTES)

    def forget(self) -> None:
        """Clear the cache: limits may have changed."""
        self._limits.clear()
        self._absent_until_s.clear()

    def refused(self, name: str) -> StreamrecError:
        """Return the error to raise after the broker refused a record of this topic as too large."""
        before = self._limits.pop(name, BROKER_MAX_MESSAGE_BYTES)
        try:
            room = self._room(name)
        except TransientError as error:
            return error
        if room >= before:
            room = before * 3 // 4
        self._limits[name] = room
        _log.warning("record refused as too large", topic=name, room_was=before, room=room)
        if room < LEAST_ROOM_BYTES:
            return StreamrecError(f"Kafka: {name} refuses records of {before} bytes, the smallest that can be sent")
        return TransientError(f"Kafka: {name} refuses records of {before:,} bytes, trying {room:,}")

    def _read(self, asked: str) -> dict[str, int]:
        # must outlive its futures, or they fail
        admin = AdminClient(client_config(self._kafka))
        try:
            cluster = admin.list_topics(timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise explain(error.args[0], admin, patience_s=RECONNECT_S + 1) from error
        ours = {self._kafka.on_broker(topic.name) for topic in TOPICS}
        names = [name for name in {asked, *ours} if name in cluster.topics]
        if not names:
            return {}
        if cluster.controller_id not in cluster.brokers:  # librdkafka's mock broker has no controller
            return dict.fromkeys(names, BROKER_MAX_MESSAGE_BYTES)
        futures = admin.describe_configs(
            [ConfigResource(ResourceType.TOPIC, name) for name in names], request_timeout=_TIMEOUT_S
        )
        limits, silent = {}, []
        for resource, future in futures.items():
            try:
                limits[resource.name] = int(future.result(_TIMEOUT_S + 1)[MAX_MESSAGE_BYTES].value)
            except (TimeoutError, KafkaException, KeyError, TypeError, ValueError) as error:
                # the broker answered other requests: this one is not permitted or not supported
                limits[resource.name] = BROKER_MAX_MESSAGE_BYTES
                silent.append(f"{resource.name}: {error}")
        if silent:
            _log.warning("size limits of topics are unknown, using the default", topics=silent)
        return limits
