"""Workers wait, not ready, for servers that would lose or refuse their work, and no size ends one."""

from __future__ import annotations

import json
import time

import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from waiting import DEADLINE_S

from streamrec.domain.interest import InterestState
from streamrec.monitor.look import look_once


def click(user_id, item_id, **fields):
    return {"user_id": user_id, "item_id": item_id, "event_time_ms": int(time.time() * 1_000), **fields}


def set_room(settings, topic, room):
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    entry = ConfigEntry("max.message.bytes", str(room), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(DEADLINE_S)


def newest(settings, topic):
    """Return the values of all records of a topic."""
    consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values, quiet_s = [], time.monotonic() + DEADLINE_S
    while time.monotonic() < quiet_s:
        message = consumer.poll(0.5)
        if message is None and values:
            break
        if message is not None and message.error() is None:
            values.append(message)
    consumer.close()
    return values


def test_workers_wait_for_a_redis_that_evicts_and_continue_when_it_is_mended(pipeline):
    with redis.Redis.from_url(pipeline.settings.require_redis_url()) as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        workers = pipeline.start("interests", "recall")
        pipeline.produce("clicks", [click("u1", "i1")])
        for name in ("interests", "recall"):
            pipeline.wait(lambda: "maxmemory-policy is allkeys-lru" in pipeline.log(name), f"{name} to say why")  # noqa: B023
        assert client.keys("interest:*") + client.keys("position:*") == []
        found = look_once(pipeline.settings).verdict
        causes = {(cause["name"], cause["subject"]) for cause in found["details"]}
        assert {("unfit-server", "Redis"), ("paused", "interests"), ("paused", "recall")} <= causes
        assert any("CONFIG SET maxmemory-policy noeviction" in text for text in found["causes"])

        client.config_set("maxmemory-policy", "noeviction")
        pipeline.wait_until_folded()
    assert [worker.poll() for worker in workers] == [None, None]


def test_no_size_ends_a_worker_and_settings_that_cannot_fit_are_named(pipeline):
    set_room(pipeline.settings, "user-interests", 50_000)
    (worker,) = pipeline.start("interests", sequence_length=1_000)
    pipeline.wait(lambda: "or set STREAMREC_SEQUENCE_LENGTH lower" in pipeline.log("interests"), "the setting's name")
    set_room(pipeline.settings, "user-interests", 1_048_588)

    pipeline.produce("clicks", [click("u1", "\N{MUSICAL SYMBOL G CLEF}" * 250 + f"{n:04}") for n in range(1_000)])
    producer = Producer({"bootstrap.servers": pipeline.settings.kafka, "message.max.bytes": 2_000_000})
    # with the headers of its dead letter it is larger than a topic takes
    producer.produce("clicks", key=b"u2", value=b"{broken", headers={f"header-{n}": b"v" * 90 for n in range(9_999)})
    assert producer.flush(DEADLINE_S) == 0
    set_room(pipeline.settings, "clicks.dlq", 100_000)
    pipeline.produce("clicks", [click("u1", "after")])
    pipeline.wait(lambda: _sequence(pipeline, "u1")[-1:] == ["after"], "the last event")

    assert worker.poll() is None
    assert len(_sequence(pipeline, "u1")) == 1_000
    published = json.loads(newest(pipeline.settings, "user-interests")[-1].value())
    assert published["sequence"][-1][4] == "after"
    assert 900 < len(published["sequence"]) < 1_000
    (letter,) = newest(pipeline.settings, "clicks.dlq")
    assert letter.value() == b"{broken"
    assert dict(letter.headers())["dlq.cut"] == b"headers"
    assert "sequence shortened" in pipeline.log("interests")


def _sequence(pipeline, user_id):
    state = pipeline.store.load([user_id], []).states.get(user_id, InterestState())
    return [event.item_id for event in state.sequence]
