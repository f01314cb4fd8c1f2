"""Events in, lists out, on real servers with real workers."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, Producer
from pipeline import DEADLINE_S

from streamrec.chaos.oracle import read_all
from streamrec.contracts.derived import TopKList

HOUR_MS = 3_600_000


def now_ms():
    return time.time_ns() // 1_000_000


def click(user_id, item_id, **fields):
    return {"user_id": user_id, "item_id": item_id, "event_time_ms": now_ms(), **fields}


def read_list(pipeline, user_id, event_time_ms):
    topk = pipeline.reader.read(user_id)
    return topk if topk and topk.user_id == user_id and topk.event_time_ms >= event_time_ms else None


def item_ids(topk):
    return [item.item_id for item in topk.items]


def test_a_click_changes_the_users_list_in_redis_and_on_kafka(pipeline):
    pipeline.start("interests", "recall", "trainer")
    others = [click(f"other{n}", f"i{n % 5}") for n in range(50)]
    first = click("u1", "i0")
    pipeline.produce("clicks", [*others, first])
    before = pipeline.wait(lambda: read_list(pipeline, "u1", first["event_time_ms"]), "the first list")

    second = click("u1", "i1")
    pipeline.produce("clicks", [second])
    after = pipeline.wait(lambda: read_list(pipeline, "u1", second["event_time_ms"]), "the list after a click")

    assert after.list_id != before.list_id
    assert after.event_time_ms == second["event_time_ms"]
    assert "i1" in item_ids(before)
    assert "i1" not in item_ids(after), "a seen item is hidden"
    published = [
        msgspec.json.decode(record.value, type=TopKList)
        for _, record in read_all(pipeline.settings.kafka, ["recommendations"])
    ]
    assert after.list_id in {topk.list_id for topk in published if topk.user_id == "u1"}
    assert all(item.reason.channel for item in after.items)


def test_a_user_nobody_knows_gets_the_default_list(pipeline):
    pipeline.start("interests", "recall")
    pipeline.produce("clicks", [click(f"u{n}", "popular") for n in range(20)])
    default = pipeline.wait(lambda: pipeline.reader.read("nobody"), "the default list")

    assert default.user_id == ""
    assert item_ids(default) == ["popular"]


def test_a_withdrawn_item_is_in_no_list_made_a_second_later(pipeline):
    pipeline.start("interests", "recall", "trainer")
    events = [click(f"u{n}", f"i{n % 4}") for n in range(40)]
    pipeline.produce("clicks", events)
    pipeline.wait(lambda: read_list(pipeline, "u39", events[-1]["event_time_ms"]), "lists")

    pipeline.produce("items", [{"item_id": "i0", "available": False}], key="item_id")
    withdrawn_ms = now_ms()
    pipeline.wait(lambda: "i0" not in item_ids(pipeline.reader.read("u1")), "the reader to drop the item")
    pipeline.wait(lambda: now_ms() > withdrawn_ms + 1_000, "a second to pass")
    pipeline.produce("clicks", [click(f"u{n}", "i3") for n in range(40)])
    pipeline.wait(lambda: read_list(pipeline, "u39", withdrawn_ms), "newer lists")

    lists = [
        msgspec.json.decode(record.value, type=TopKList)
        for _, record in read_all(pipeline.settings.kafka, ["recommendations"])
    ]
    newer = [topk for topk in lists if topk.made_at_ms > withdrawn_ms + 1_000]
    assert newer
    assert not [topk for topk in newer if "i0" in item_ids(topk)]
    assert [topk for topk in lists if "i0" in item_ids(topk)], "it was listed before"


BAD_EVENTS = {
    "bad-json": b"{broken",
    "not-utf8": b'{"user_id": "\xff\xfe"}',
    "missing-field": json.dumps({"user_id": "u1"}).encode(),
    "wrong-type": json.dumps({"user_id": 7, "item_id": "i", "event_time_ms": 1_700_000_000_000}).encode(),
    "unknown-type": json.dumps({"type": "dance", **click("u1", "i")}).encode(),
    "null-value": None,
}


def bad_events():
    event = click("u1", "i")
    yield from BAD_EVENTS.items()
    yield "bad-json", json.dumps({**event, "event_time_ms": float("nan")}).encode()
    yield "bad-value", json.dumps({**event, "item_id": ""}).encode()
    yield "bad-value", json.dumps({**event, "item_id": "x" * 10_000}).encode()
    yield "bad-time", json.dumps({**event, "event_time_ms": 1}).encode()
    yield "bad-time", json.dumps({**event, "event_time_ms": 4_102_444_800_000}).encode()
    # the largest record that a broker takes by default
    yield "too-large", json.dumps({**event, "context": {"x": "y" * 1_040_000}}).encode()


def test_bad_input_never_stops_a_worker_and_never_vanishes(pipeline):
    bad = list(bad_events())
    mixed = [value for n, (_, value) in enumerate(bad) for value in (click("u1", f"good{n}"), value)]
    producer = Producer({"bootstrap.servers": pipeline.settings.kafka, "message.max.bytes": 1_048_588 * 2})
    for value in mixed:
        is_event = isinstance(value, dict)
        producer.produce("clicks", key="u1", value=json.dumps(value) if is_event else value, partition=0)
    assert producer.flush(DEADLINE_S) == 0
    pipeline.start("interests")
    pipeline.wait_until_folded()

    letters = [record for _, record in read_all(pipeline.settings.kafka, ["clicks.dlq"])]
    assert sorted((letter.headers["dlq.reason"].decode(), letter.value or b"") for letter in letters) == sorted(
        (reason, value or b"") for reason, value in bad
    )
    assert len(pipeline.store.load(["u1"], []).states["u1"].sequence) == len(bad)
    assert pipeline.judge().clean


def test_a_producer_with_another_partitioner_loses_nothing(pipeline):
    other = Producer({"bootstrap.servers": pipeline.settings.kafka, "partitioner": "random"})
    for n in range(2_000):
        other.produce("clicks", key=f"u{n % 20}", value=json.dumps(click(f"u{n % 20}", f"i{n}")))
        other.poll(0)
    assert other.flush(DEADLINE_S) == 0
    # two workers share the partitions, and so each user
    pipeline.start("interests", "interests")
    pipeline.wait_until_folded()

    ledger = pipeline.ledger()
    assert len(ledger.applied) == 2_000
    assert pipeline.judge().clean


def test_freshness_at_a_steady_rate_is_reported_by_the_lists_themselves(pipeline):
    pipeline.start("interests", "recall")
    consumer = Consumer(
        {"bootstrap.servers": pipeline.settings.kafka, "group.id": uuid4().hex, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["recommendations"])
    pipeline.produce("clicks", [click("u1", "i1")])
    message = pipeline.wait(lambda: consumer.poll(0.1), "a list")
    topk = msgspec.json.decode(message.value(), type=TopKList)
    consumer.close()

    assert topk.produced_at_ms <= topk.made_at_ms <= message.timestamp()[1] + 1
    assert topk.event_time_ms == pytest.approx(topk.produced_at_ms, abs=5_000)
