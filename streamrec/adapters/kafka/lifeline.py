"""Noticing that a client has forgotten every broker, which librdkafka may and then never comes back from.

A broker that went on after its own session had ended says for an instant that there are no brokers. Whoever asks just
then takes the last one off its list (librdkafka's issue 5301, seen with 2.16). All that helps is a new client.
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
"""A reader that heard nothing for so long is looked after."""

_ANSWER_S = RECONNECT_S + 1.0
"""Whoever knows a broker that is there has reached it by then."""


class Lifeline:
    """Looks after a reader while it is quiet.

    Parameters
    ----------
    reader
        The client.
    kafka
        Where Kafka is and how to get in.
    monotonic_s
        The clock that says how long it was quiet.
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
        """Take note that the reader heard from a broker."""
        self._due_s = self._monotonic_s() + QUIET_S

    def check(self) -> None:
        """Raise as :func:`check_reach` if the reader has been quiet and must not be."""
        if self._monotonic_s() >= self._due_s:
            check_reach(self._reader, self._kafka)
            self.heard()


def check_reach(client: Consumer | Producer, kafka: KafkaAccess) -> None:
    """Make sure that a client reaches a broker if anybody does.

    Raises
    ------
    StreamrecError
        If a new client does and this one does not; no later try can go through.
    """
    topic = kafka.on_broker(CLICKS)
    if _reaches_any(client, topic) or not _reaches_any(AdminClient(client_config(kafka)), topic):
        return
    if not _reaches_any(client, topic):  # asked again: the broker may have come back just before the new client asked
        raise StreamrecError("Kafka: librdkafka has forgotten every broker, and brokers are there: start anew")


def _reaches_any(client: Consumer | Producer | AdminClient, topic: str) -> bool:
    try:
        return bool(client.list_topics(topic, timeout=_ANSWER_S).brokers)
    except KafkaException:
        return False
