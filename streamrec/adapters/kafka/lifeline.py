"""Detects a client that has lost all brokers, from which librdkafka may never recover.

A broker that continues after its session was fenced briefly returns an empty list of brokers. A client that asks at
that moment removes its last broker (librdkafka's issue 5301, seen with 2.16). Only a new client helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streamrec.adapters.kafka.client import RECONNECT_S, client_config
from streamrec.contracts.topics import CLICKS
from streamrec.errors import StreamrecError
from streamrec.kafka_access import KafkaAccess

QUIET_S = 5.0
"""A consumer without responses for this long is checked."""

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
    monotonic_s
        Clock for the idle time.
    """

    def __init__(
        self, reader: Consumer, kafka: KafkaAccess, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader = reader
        self._kafka = kafka
        self._monotonic_s = monotonic_s
        self._due_s = 0.0
        self.heard()

    def heard(self) -> None:
        """Record a response from a broker."""
        self._due_s = self._monotonic_s() + QUIET_S

    def check(self) -> None:
        """Call :func:`check_reach` if the consumer has been idle for too long."""
        if self._monotonic_s() >= self._due_s:
            check_reach(self._reader, self._kafka)
            self.heard()


def check_reach(client: Consumer | Producer, kafka: KafkaAccess) -> None:
    """Verify that a client reaches a broker if a new client does.

    Raises
    ------
    StreamrecError
        If a new client does and this one does not; retries cannot succeed.
    """
    topic = kafka.on_broker(CLICKS)
    if _reaches_any(client, topic) or not _reaches_any(AdminClient(client_config(kafka)), topic):
        return
    if not _reaches_any(client, topic):  # asked again: the broker may have returned just before the new client asked
        raise StreamrecError("Kafka: librdkafka has lost all brokers although they are available: restart")


def _reaches_any(client: Consumer | Producer | AdminClient, topic: str) -> bool:
    try:
        return bool(client.list_topics(topic, timeout=_ANSWER_S).brokers)
    except KafkaException:
        return False
