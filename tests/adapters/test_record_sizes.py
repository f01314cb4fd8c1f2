"""A size that is checked where a record leaves, on a real broker: our measure is the broker's own."""

from __future__ import annotations

import dataclasses
import time
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from kafka_topics import new_topic
from waiting import DEADLINE_S, wait

from streamrec.adapters.kafka import KafkaPublisher, create_topics
from streamrec.adapters.kafka.limits import TopicLimits
from streamrec.cli.app import main
from streamrec.contracts.topics import BROKER_MAX_MESSAGE_BYTES
from streamrec.errors import TooLargeError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.largest_records import (
    created_limits,
    needs_of_interests,
    needs_of_recall,
    needs_of_trainer,
    require_room,
)
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import size_of

ROOM = 20_000


@pytest.fixture
def topic(kafka_bootstrap):
    with new_topic(kafka_bootstrap, config={"max.message.bytes": str(ROOM)}) as name:
        yield name


def set_room(admin, topic, room):
    entry = ConfigEntry("max.message.bytes", str(room), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(DEADLINE_S)


def wait_until_refused(kafka, topic, size):
    """Wait until the broker applies a smaller limit: it accepts a change before the partition's log knows it."""
    producer, found = Producer({"bootstrap.servers": kafka.bootstrap}), []
    record, end_s = of_size(topic, size, headers={}), time.monotonic() + DEADLINE_S
    while KafkaError.MSG_SIZE_TOO_LARGE not in found:
        assert time.monotonic() < end_s, found
        producer.produce(
            topic, record.value, record.key, on_delivery=lambda error, _: found.append(error and error.code())
        )
        assert producer.flush(DEADLINE_S) == 0


def of_size(topic, size, *, headers):
    """Return a record of exactly this size."""
    record = Outgoing(topic, b"key", b"", headers)
    while (missing := size - size_of(record)) > 0:
        record = record._replace(value=record.value + bytes(missing if missing < 60 else missing - 8))
    assert size_of(record) == size
    return record


@pytest.mark.parametrize("headers", [{}, {"h": b"v"}, {f"ü{n}": bytes(n) for n in range(100)}])
def test_the_broker_takes_a_record_of_the_room_and_none_of_a_byte_more(kafka, topic, headers):
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 1 << 26})
    found = []

    def note(error, _message):
        found.append(error and error.code())

    for size in (ROOM, ROOM + 1):
        record = of_size(topic, size, headers=headers)
        producer.produce(topic, record.value, record.key, headers=dict(headers), on_delivery=note)
        assert producer.flush(DEADLINE_S) == 0
    assert found == [None, KafkaError.MSG_SIZE_TOO_LARGE]


def test_the_room_of_a_topic_is_what_the_broker_says(kafka, topic):
    publisher = KafkaPublisher(kafka)
    assert (publisher.room(topic), publisher.room("clicks")) == (ROOM, BROKER_MAX_MESSAGE_BYTES)
    assert publisher.room("not-there") == BROKER_MAX_MESSAGE_BYTES


def test_a_record_that_does_not_fit_is_refused_before_anything_is_sent(kafka, topic):
    publisher = KafkaPublisher(kafka)
    with pytest.raises(TooLargeError, match="limits records to 20,000 bytes, this one has 20,001"):
        publisher.publish([Outgoing(topic, None, b"fits"), of_size(topic, ROOM + 1, headers={})])
    publisher.publish([of_size(topic, ROOM, headers={})])


def test_many_records_that_fit_one_by_one_are_not_refused_together(kafka, topic):
    KafkaPublisher(kafka).publish([of_size(topic, ROOM // 2 + 1, headers={"h": b"v"})] * 500)


def test_a_limit_that_shrinks_under_a_worker_is_learned_and_retried_with_less(kafka, admin, topic):
    publisher = KafkaPublisher(kafka)
    publisher.publish([of_size(topic, ROOM, headers={})])
    set_room(admin, topic, ROOM // 2)
    wait_until_refused(kafka, topic, ROOM)
    with pytest.raises(TransientError, match="trying"):
        publisher.publish([of_size(topic, ROOM, headers={})])
    publisher.publish([of_size(topic, publisher.room(topic), headers={})])
    assert publisher.room(topic) == ROOM // 2


def test_a_limit_that_is_not_believed_to_be_higher_than_what_was_refused(kafka, topic):
    """The broker's own answer may not be the whole truth: a proxy, or a cluster of mixed versions."""
    publisher = KafkaPublisher(kafka)
    publisher._limits._limits[topic] = ROOM // 4
    assert publisher._limits.refused(topic).args[0].endswith("trying 3,750")
    assert publisher.room(topic) == 3_750


def test_a_broker_without_an_admin_api_takes_what_brokers_take_by_default():
    broker = Producer({"bootstrap.servers": "in-memory", "test.mock.num.brokers": 1, "log_level": 0})
    broker.list_topics("clicks", timeout=DEADLINE_S)
    addresses = [f"{each.host}:{each.port}" for each in broker.list_topics(timeout=DEADLINE_S).brokers.values()]
    publisher = KafkaPublisher(KafkaAccess(",".join(addresses)))
    publisher.publish([Outgoing("clicks", b"u1", b"{}")])

    assert publisher.room("clicks") == BROKER_MAX_MESSAGE_BYTES


def test_a_broker_that_is_away_is_transient():
    with pytest.raises(TransientError, match="Kafka"):
        KafkaPublisher(KafkaAccess("127.0.0.1:1")).room("clicks")


def test_topics_are_created_with_room_for_the_records_that_the_settings_ask_for(kafka):
    roomy = dataclasses.replace(kafka, installation=f"roomy{uuid4().hex[:8]}")
    limits = created_limits(1_000, 1_000)
    assert f"{roomy.installation}.user-interests" in create_topics(roomy, 1, 1, limits=limits)

    publisher = KafkaPublisher(roomy)
    # the broker may take a moment to know a topic that it has just created
    wait(lambda: publisher.room("user-interests") == limits["user-interests"], "the room that was asked for")
    publisher.publish([of_size("user-interests", limits["user-interests"], headers={})])
    require_room(publisher, [*needs_of_interests(1_000), *needs_of_recall(1_000), *needs_of_trainer()])


def test_creating_topics_names_the_setting_that_an_older_topic_has_no_room_for(kafka, admin, monkeypatch, capsys):
    monkeypatch.setenv("STREAMREC_KAFKA", kafka.bootstrap)
    monkeypatch.setenv("STREAMREC_INSTALLATION", installation := f"tight{uuid4().hex[:8]}")
    create_topics(dataclasses.replace(kafka, installation=installation), 1, 1)
    set_room(admin, recommendations := f"{installation}.recommendations", ROOM)
    wait_until_refused(kafka, recommendations, ROOM + 1)
    with pytest.raises(SystemExit) as exit_info:
        main(["topics", "create"])
    assert exit_info.value.code == 1
    assert "recommendations limits records to 20,000 bytes" in (said := capsys.readouterr().err)
    assert "STREAMREC_TOP_K" in said


def test_the_broker_is_not_asked_for_a_missing_topic_with_each_record(monkeypatch):
    asked = []
    limits = TopicLimits(KafkaAccess("unused:9092"))
    monkeypatch.setattr(limits, "_read", lambda name: asked.append(name) or {})
    assert {limits.room("not-there") for _ in range(1_000)} == {BROKER_MAX_MESSAGE_BYTES}
    assert asked == ["not-there"]
    limits.forget()
    limits.room("not-there")
    assert asked == ["not-there"] * 2


def test_batches_shrink_with_the_limit_of_the_smallest_topic():
    publisher = KafkaPublisher(KafkaAccess("127.0.0.1:1"))
    publisher._limits._limits["small"] = ROOM
    first = publisher._open()
    assert publisher._open() is first
    publisher._limits._limits["small"] = ROOM // 2
    assert publisher._open() is not first
