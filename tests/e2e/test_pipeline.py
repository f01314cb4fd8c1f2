"""Events in, lists out, on real servers with real workers."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
import redis
from confluent_kafka import Producer
from waiting import DEADLINE_S

from streamrec.chaos.oracle import read_all
from streamrec.contracts.decode import decode_list
from streamrec.contracts.derived import TopKList

HOUR_MS = 3_600_000


def now_ms():
    return time.time_ns() // 1_000_000


def click(user_id, item_id, **fields):
    return {"user_id": user_id, "item_id": item_id, "event_time_ms": now_ms(), **fields}


def read_list(running, user_id, event_time_ms):
    topk = running.reader.read(user_id)
    return topk if topk and topk.user_id == user_id and topk.event_time_ms >= event_time_ms else None


def item_ids(topk):
    return topk.items.ids


def wait_until_listed_by_default(running, item_id):
    """Wait until the default list, which a pipeline does not have from its first moment, holds an item."""

    def listed():
        default = running.reader.read("nobody")
        return default is not None and item_id in item_ids(default)

    running.wait(listed, f"{item_id} to be in the default list")


def test_a_click_changes_the_users_list_in_redis_and_on_kafka(running):
    running.produce("clicks", [click(f"other{n}", f"i{item}") for n in range(30) for item in range(5)])
    wait_until_listed_by_default(running, "i1")
    first = click("u1", "i0")
    running.produce("clicks", [first])
    before = running.wait(lambda: read_list(running, "u1", first["event_time_ms"]), "the first list")

    second = click("u1", "i1")
    running.produce("clicks", [second])
    after = running.wait(lambda: read_list(running, "u1", second["event_time_ms"]), "the list after a click")

    assert after.list_id != before.list_id
    assert after.event_time_ms == second["event_time_ms"]
    assert "i1" in item_ids(before)
    assert "i1" not in item_ids(after), "a seen item is hidden"
    published = [
        msgspec.json.decode(record.value, type=TopKList)
        for _, record in read_all(running.settings.require_kafka(), ["recommendations"])
    ]
    assert after.list_id in {topk.list_id for topk in published if topk.user_id == "u1"}
    assert all(item.reason.channel for item in after.items)


def test_a_user_nobody_knows_gets_the_default_list(running):
    running.produce("clicks", [click(f"fan{n}", "popular") for n in range(20)])
    wait_until_listed_by_default(running, "popular")

    assert running.reader.read("nobody").user_id == ""


def test_a_withdrawn_item_is_in_no_list_made_a_second_later(running):
    running.produce("clicks", [click(f"w{n}", f"w-item{n % 4}") for n in range(40)])
    wait_until_listed_by_default(running, "w-item0")
    learned_ms = now_ms()
    running.produce("clicks", [click(f"w{n}", "w-item1") for n in range(40)])
    running.wait(lambda: all(read_list(running, f"w{n}", learned_ms) for n in range(40)), "lists")

    running.produce("items", [{"item_id": "w-item0", "available": False}], key="item_id")
    withdrawn_ms = now_ms()
    running.wait(lambda: "w-item0" not in item_ids(running.reader.read("w1")), "the reader to drop the item")
    running.wait(lambda: now_ms() > withdrawn_ms + 1_000, "a second to pass")
    running.produce("clicks", [click(f"w{n}", "w-item3") for n in range(40)])
    running.wait(lambda: all(read_list(running, f"w{n}", withdrawn_ms) for n in range(40)), "newer lists")

    lists = [
        msgspec.json.decode(record.value, type=TopKList)
        for _, record in read_all(running.settings.require_kafka(), ["recommendations"])
    ]
    newer = [topk for topk in lists if topk.made_at_ms > withdrawn_ms + 1_000]
    assert newer
    assert not [topk for topk in newer if "w-item0" in item_ids(topk)]
    assert [topk for topk in lists if "w-item0" in item_ids(topk)], "it was listed before"


BAD_EVENTS = {
    "bad-json": b"{broken",
    "not-utf8": b'{"user_id": "\xff\xfe"}',
    "missing-field": json.dumps({"user_id": "u1"}).encode(),
    "wrong-type": json.dumps({"user_id": [7], "item_id": "i", "event_time_ms": 1_700_000_000_000}).encode(),
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


def test_a_withdrawn_item_leaves_stored_lists(running):
    """Whoever reads Redis or Kafka without `TopKReader` must not see it either."""
    running.produce("clicks", [click(f"s{n}", f"s-item{n % 4}") for n in range(80)])
    # lists made before the item is known hold it only if they are short, for want of other tests' items
    wait_until_listed_by_default(running, "s-item0")
    running.produce("clicks", [click(f"s{n}", "s-other") for n in range(80)])
    with redis.Redis.from_url(running.settings.require_redis_url()) as client:

        def holders():
            values = client.mget([f"rec:s{n}" for n in range(80)])
            return {n for n, value in enumerate(values) if value and "s-item0" in decode_list(value).items.ids}

        running.wait(lambda: len(holders()) > 10, "lists with the item")
        running.produce("items", [{"item_id": "s-item0", "available": False}], key="item_id")
        running.wait(lambda: not holders(), "the item to leave the lists")

    def published():
        newest = {
            record.key: record.value for _, record in read_all(running.settings.require_kafka(), ["recommendations"])
        }
        return [decode_list(value).items.ids for key, value in newest.items() if key.startswith(b"s")]

    running.wait(lambda: not any("s-item0" in item_ids for item_ids in published()), "it to leave the topic")
    assert len(published()) >= 80


def test_what_a_list_hides_stays_hidden_when_it_ages_and_beyond_the_sequence(running):
    running.produce("clicks", [click(f"h{n}", f"h-item{n % 4}") for n in range(80)])
    wait_until_listed_by_default(running, "h-item0")
    bought = {"user_id": "buyer", "item_id": "h-item0", "event_time_ms": now_ms() - 30 * HOUR_MS}
    running.produce("purchases", [bought])
    running.wait(lambda: read_list(running, "buyer", bought["event_time_ms"]), "the list after the purchase")
    running.produce("clicks", [click(f"h{n}", "h-item0") for n in range(80)])
    running.wait_until_folded()
    wait_until_listed_by_default(running, "h-item0")
    topk = running.reader.read("buyer")
    assert topk.items
    assert "h-item0" not in item_ids(topk)

    last = {"event_time_ms": now_ms()}
    more = [click("buyer", f"h-other{n}") | {"event_time_ms": last["event_time_ms"] - 60 + n} for n in range(61)]
    running.produce("clicks", more)
    topk = running.wait(lambda: read_list(running, "buyer", last["event_time_ms"]), "the list after more events")
    assert "h-item0" not in item_ids(topk)
    assert topk.items


def test_six_hundred_clicks_of_one_user_move_nobody_elses_list(running):
    others = [click(f"p{n}-{item}", f"p-item{item}") for item in range(10) for n in range(20)]
    bot = [click("bot", "spam") | {"event_time_ms": now_ms() + n} for n in range(600)]
    running.produce("clicks", [*bot, *others])
    running.wait_until_folded()
    wait_until_listed_by_default(running, "p-item9")
    running.produce("clicks", [click("witness", "p-item0")])
    running.wait(lambda: read_list(running, "witness", bot[0]["event_time_ms"]), "a list")
    default = item_ids(running.reader.read("nobody"))
    assert {f"p-item{item}" for item in range(10)} <= set(default)
    places = [default.index(f"p-item{item}") for item in range(10)]
    assert "spam" not in default or default.index("spam") > max(places)


def test_bad_input_never_stops_a_worker_and_never_vanishes(running):
    bad = list(bad_events())
    mixed = [value for n, (_, value) in enumerate(bad) for value in (click("bad-input", f"good{n}"), value)]
    producer = Producer({"bootstrap.servers": running.settings.kafka, "message.max.bytes": 1_048_588 * 2})
    for value in mixed:
        is_event = isinstance(value, dict)
        producer.produce("clicks", key="bad-input", value=json.dumps(value) if is_event else value, partition=0)
    assert producer.flush(DEADLINE_S) == 0
    running.wait_until_folded()

    letters = [record for _, record in read_all(running.settings.require_kafka(), ["clicks.dlq"])]
    assert sorted((letter.headers["dlq.reason"].decode(), letter.value or b"") for letter in letters) == sorted(
        (reason, value or b"") for reason, value in bad
    )
    assert len(running.store.load(["bad-input"], []).states["bad-input"].sequence) == len(bad)
    assert running.judge().clean


def test_a_producer_with_another_partitioner_loses_nothing(running):
    other = Producer({"bootstrap.servers": running.settings.kafka, "partitioner": "random"})
    for n in range(2_000):
        other.produce("clicks", key=f"random{n % 20}", value=json.dumps(click(f"random{n % 20}", f"i{n}")))
        other.poll(0)
    assert other.flush(DEADLINE_S) == 0
    running.wait_until_folded()

    ledger = running.ledger()
    assert sum(len(ledger.states[f"random{n}"].sequence) for n in range(20)) == 20 * 50
    assert sum(ledger.states[f"random{n}"].events_count for n in range(20)) == 2_000
    assert running.judge().clean


def test_a_list_carries_what_its_age_is_measured_by(running):
    running.produce("clicks", [click("aged", "i1")])
    topk = running.wait(lambda: read_list(running, "aged", 1), "a list")

    assert topk.produced_at_ms <= topk.made_at_ms <= now_ms()
    assert topk.event_time_ms == pytest.approx(topk.produced_at_ms, abs=5_000)
