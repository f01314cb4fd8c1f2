"""A client that reaches no broker although there is one must not wait for ever."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, Producer

from streamrec.adapters.kafka import lifeline
from streamrec.adapters.kafka.lifeline import Lifeline, check_reach
from streamrec.errors import StreamrecError
from streamrec.settings import KafkaAccess

NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "group.id": "test"}
"""As of a client that has forgotten every broker: it has none that answers."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lifeline, "QUIET_S", 0.1)
    monkeypatch.setattr(lifeline, "_ANSWER_S", 1.0)


@pytest.mark.parametrize("client", [Consumer, Producer])
def test_a_client_that_knows_no_broker_is_told_from_brokers_that_are_away(kafka, client):
    config = {"group.id": "test"} if client is Consumer else {}
    check_reach(client({"bootstrap.servers": kafka.bootstrap} | config), kafka)
    nowhere = client({"bootstrap.servers": "127.0.0.1:1"} | config)
    check_reach(nowhere, KafkaAccess(bootstrap="127.0.0.1:1"))
    with pytest.raises(StreamrecError, match="start anew"):
        check_reach(nowhere, kafka)


def test_a_reader_is_looked_after_when_it_was_quiet_for_a_while(kafka):
    line = Lifeline(Consumer(NOWHERE), kafka)
    line.check()
    time.sleep(lifeline.QUIET_S)
    line.heard()
    line.check()
    time.sleep(lifeline.QUIET_S)
    with pytest.raises(StreamrecError, match="start anew"):
        line.check()
