"""A recalled product leaves all lists, whatever else is wrong with its record; what is refused is dead-lettered."""

from __future__ import annotations

import json
import signal
import time

from waiting import DEADLINE_S

from streamrec.chaos.oracle import read_all


def produce(pipeline, *records):
    for topic, key, value in records:
        pipeline.producer.produce(topic, key=key, value=json.dumps(value) if isinstance(value, dict) else value)
    assert pipeline.producer.flush(DEADLINE_S) == 0


def letters(pipeline, topic):
    found = read_all(pipeline.settings.require_kafka(), [f"{topic}.dlq"])
    return [(record.headers["dlq.reason"].decode(), int(record.headers["dlq.offset"])) for _, record in found]


def clicks(*item_ids):
    now_ms = time.time_ns() // 1_000_000
    return [
        ("clicks", f"u{n}", {"user_id": f"u{n}", "item_id": item_id, "event_time_ms": now_ms})
        for n in range(10)
        for item_id in item_ids
    ]


def test_withdrawals_with_bad_fields_and_refused_items_and_impressions(pipeline):
    pipeline.start("interests", "trainer", "recall")
    (retention,) = pipeline.start("retention")
    toys = [f"toy{n}" for n in range(5)]
    produce(pipeline, *(("items", toy, {"item_id": toy}) for toy in [*toys, "kept"]), *clicks(*toys, "kept"))

    def listed():
        default = pipeline.reader.read("nobody")
        return set() if default is None else set(default.items.ids)

    pipeline.wait(lambda: {*toys, "kept"} <= listed(), "all items to be listed")
    produce(
        pipeline,
        ("items", "toy0", {"item_id": "toy0", "available": "false"}),
        ("items", "toy1", {"item_id": "toy1", "available": None}),
        ("items", "toy2", {"item_id": "toy2", "available": False, "price": 3, "currency": "dollars"}),
        ("items", "prefix-toy3", {"item_id": "toy3", "available": False}),
        ("items", '"toy4"', None),
        ("items", "kept", b"{"),
        ("impressions", "u1", b"[]"),
    )
    pipeline.wait(lambda: listed() == {"kept"}, "withdrawn items to leave the list")
    pipeline.wait(lambda: letters(pipeline, "impressions"), "the dead letter of an impression")
    pipeline.wait(lambda: len(letters(pipeline, "items")) == 2, "the dead letters of items")
    assert letters(pipeline, "items") == [("bad-key", 9), ("bad-json", 11)]

    retention.send_signal(signal.SIGTERM)
    retention.wait(DEADLINE_S)
    pipeline.start("retention")
    produce(pipeline, ("items", "kept", b"["))
    pipeline.wait(lambda: len(letters(pipeline, "items")) > 2, "the dead letter after a restart")
    assert letters(pipeline, "items") == [("bad-key", 9), ("bad-json", 11), ("bad-json", 12)]
