"""The largest record that each topic takes, as the broker says."""

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
"""A topic that refuses even this takes nothing."""

_TIMEOUT_S = 3.0

_ABSENT_S = 1.0
"""A topic that is not there is asked for again after so long; a batch asks for each of its records."""

_log = structlog.get_logger(__name__)


class TopicLimits:
    """Knows how large a record may be, from the first time that it is asked.

    Where the broker does not say (it has no admin API, or this user may not describe topics), Kafka's default is taken.
    A broker that refuses a record within the limit that it gave is believed: the limit shrinks.

    Parameters
    ----------
    kafka
        Where Kafka is and how to get in.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._limits: dict[str, int] = {}
        """By the name that a topic has on the broker."""
        self._absent_until_s: dict[str, float] = {}

    def room(self, topic: str) -> int:
        """Return the size of the largest record of a topic, in bytes, overhead included.

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
        """The room of the topic that takes least."""
        return min(self._limits.values(), default=BROKER_MAX_MESSAGE_BYTES)

    def forget(self) -> None:
        """Ask anew: limits may have been changed."""
        self._limits.clear()
        self._absent_until_s.clear()

    def refused(self, name: str) -> StreamrecError:
        """Return what is to be raised where the broker refused a record of a topic of this name as too large."""
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
            return StreamrecError(f"Kafka: {name} takes no record of {before} bytes, the least that can be sent")
        return TransientError(f"Kafka: {name} takes no record of {before:,} bytes, {room:,} will be tried")

    def _read(self, asked: str) -> dict[str, int]:
        # kept until its futures are done, else they fail
        admin = AdminClient(client_config(self._kafka))
        try:
            cluster = admin.list_topics(timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise explain(error.args[0], admin, patience_s=RECONNECT_S + 1) from error
        ours = {self._kafka.on_broker(topic.name) for topic in TOPICS}
        names = [name for name in {asked, *ours} if name in cluster.topics]
        if not names:
            return {}
        if cluster.controller_id not in cluster.brokers:  # nobody to ask: librdkafka's broker in memory has none
            return dict.fromkeys(names, BROKER_MAX_MESSAGE_BYTES)
        futures = admin.describe_configs(
            [ConfigResource(ResourceType.TOPIC, name) for name in names], request_timeout=_TIMEOUT_S
        )
        limits, silent = {}, []
        for resource, future in futures.items():
            try:
                limits[resource.name] = int(future.result(_TIMEOUT_S + 1)[MAX_MESSAGE_BYTES].value)
            except (TimeoutError, KafkaException, KeyError, TypeError, ValueError) as error:
                # the broker has just answered other questions: this user may not ask this one, or it has no such limit
                limits[resource.name] = BROKER_MAX_MESSAGE_BYTES
                silent.append(f"{resource.name}: {error}")
        if silent:
            _log.warning("size limits of topics are unknown, using the default", topics=silent)
        return limits
