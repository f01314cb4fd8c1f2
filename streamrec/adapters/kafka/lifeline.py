"""Detects a client that has lost all brokers, or its group's coordinator, from which librdkafka may never recover.

A broker that continues after its session was fenced briefly returns an empty list of brokers. A client that asks at
that moment removes its last broker (librdkafka's issue 5301, seen with 2.16), or keeps its connection but never finds
the coordinator again: no longer a member of its group, it waits for partitions for ever. Only a new client helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from streamrec.adapters.kafka.client import RECONNECT_S, client_config
from streamrec.contracts.topics import CLICKS
from streamrec.errors import StreamrecError
from streamrec.kafka_access import KafkaAccess

QUIET_S = 5.0
"""A consumer without responses for this long is checked."""

Client = Consumer | Producer | AdminClient

_ANSWER_S = RECONNECT_S + 1.0
"""A client that knows a running broker has reached it by then."""


class Lifeline:
    """Checks a consumer while it is idle.

    Parameters
    ----------
    reader
        The client.
    kafka
        Address and authentication of Kafka.
    group
        The consumer group that it is a member of, if any.
    monotonic_s
        Clock for the idle time.
    """

    def __init__(
        self,
        reader: Consumer,
        kafka: KafkaAccess,
        *,
        group: str | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._kafka = kafka
        self._group = group
        self._monotonic_s = monotonic_s
        self._due_s = 0.0
        self.heard()

    def heard(self) -> None:
        """Record a response from a broker."""
        self._due_s = self._monotonic_s() + QUIET_S

    def check(self) -> None:
        """Call :func:`check_reach` if the consumer has been idle for too long."""
        if self._monotonic_s() >= self._due_s:
            check_reach(self._reader, self._kafka, group=self._group)
            self.heard()


def check_reach(client: Consumer | Producer, kafka: KafkaAccess, *, group: str | None = None) -> None:
    """Verify that a client reaches a broker, and its group's coordinator, if a new client does.

    Raises
    ------
    StreamrecError
        If a new client does and this one does not; retries cannot succeed.
    """
    reaches = partial(_reaches, topic=kafka.on_broker(CLICKS), is_member=group is not None)
    if reaches(client) or not _is_reachable(kafka, group, reaches):
        return
    if not reaches(client):  # asked again: the broker may have returned just before the new client asked
        what = "all brokers" if group is None else f"all brokers, or the coordinator of {group},"
        raise StreamrecError(f"Kafka: librdkafka has lost {what} although they are available: restart")


def _is_reachable(kafka: KafkaAccess, group: str | None, reaches: Callable[[Client], bool]) -> bool:
    """Ask with a new client."""
    if group is None:
        return reaches(AdminClient(client_config(kafka)))
    with closing(Consumer(client_config(kafka) | {"group.id": group, "enable.auto.commit": False})) as observer:
        return reaches(observer)


def _reaches(client: Client, *, topic: str, is_member: bool) -> bool:
    try:
        brokers = client.list_topics(topic, timeout=_ANSWER_S).brokers
        if is_member and isinstance(client, Consumer):  # the coordinator answers
            client.committed([KafkaPartition(topic, 0)], timeout=_ANSWER_S)
    except KafkaException:
        return False
    return bool(brokers)
