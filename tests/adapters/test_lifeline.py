"""A client that reaches no broker although there is one must not wait for ever."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from streamrec.adapters.kafka import lifeline
from streamrec.adapters.kafka.lifeline import QUIET_S, Lifeline, check_reach
from streamrec.errors import StreamrecError
from streamrec.kafka_access import KafkaAccess

NOWHERE = "127.0.0.1:1"
"""Address of no broker, as seen by a client that has lost all brokers."""


@pytest.mark.parametrize("client", [Consumer, Producer])
def test_a_client_that_lost_all_brokers_is_distinguished_from_unavailable_brokers(kafka, client):
    config = {"group.id": "test"} if client is Consumer else {}
    check_reach(client({"bootstrap.servers": kafka.bootstrap} | config), kafka)
    nowhere = client({"bootstrap.servers": NOWHERE} | config)
    check_reach(nowhere, KafkaAccess(bootstrap=NOWHERE))
    with pytest.raises(StreamrecError, match="lost all brokers"):
        check_reach(nowhere, kafka)


def test_a_reader_is_checked_when_it_was_quiet_for_a_while(kafka):
    now_s = 0.0
    reader = Consumer({"bootstrap.servers": NOWHERE, "group.id": "test"})
    line = Lifeline(reader, kafka, monotonic_s=lambda: now_s)
    line.check()
    now_s = QUIET_S
    line.heard()
    line.check()
    now_s = 2 * QUIET_S
    with pytest.raises(StreamrecError, match="lost all brokers"):
        line.check()


def test_a_broker_that_comes_back_meanwhile_is_no_reason_to_end(monkeypatch, kafka):
    answers = iter([False, True, True])
    monkeypatch.setattr(lifeline, "_reaches", lambda _client, **_of: next(answers))
    check_reach(Consumer({"bootstrap.servers": NOWHERE, "group.id": "test"}), kafka)
    assert next(answers, None) is None


class WithoutCoordinator(Consumer):
    """A consumer that is connected, but never finds the coordinator of its group again."""

    def committed(self, _partitions, **_options):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_a_member_that_lost_the_coordinator_of_its_group_alone_is_told(kafka):
    config = {"bootstrap.servers": kafka.bootstrap, "group.id": "test"}
    check_reach(Consumer(config), kafka, group="test")
    stuck = WithoutCoordinator(config)
    check_reach(stuck, kafka)
    with pytest.raises(StreamrecError, match="the coordinator of test, although they are available"):
        check_reach(stuck, kafka, group="test")
