"""No record of any topic stops retention: what cannot be stored is skipped, and its neighbours are recorded."""

from __future__ import annotations

import json

import pytest
from builders import NOW_MS, batch, part
from doubles import MemoryPublisher

from streamrec.adapters.postgres import PostgresRetentionStore, RetentionReader
from streamrec.contracts.decode import MAX_CLOCK_SKEW_MS
from streamrec.service.record_retention import RecordRetention

TOO_LATE_MS = NOW_MS + MAX_CLOCK_SKEW_MS + 1


def impression(**fields):
    return json.dumps({"user_id": "u1", "list_id": "l1", "event_time_ms": NOW_MS, **fields}).encode()


def made(**fields):
    return json.dumps({"user_id": "u1", "list_id": "l1", "event_time_ms": NOW_MS, "items": [], **fields}).encode()


BAD = {
    "impressions": [
        impression(event_time_ms=TOO_LATE_MS),
        impression(event_time_ms=9 * 10**18),
        impression(event_time_ms=-1),
        impression(user_id="u\0"),
        impression(list_id=""),
        b'{"user_id": "\xff"}',
        None,
    ],
    "recommendations": [
        made(event_time_ms=TOO_LATE_MS),
        made(event_time_ms=9 * 10**18),
        made(event_time_ms=0),
        made(user_id="u\0"),
        made(user_id=""),
        made(items=[{"item_id": "i"}] * 1_001),
        b'{"list_id": "\xff"}',
        b'{"x": ' + b"[" * 100_000,
        None,
    ],
    "clicks": [json.dumps({"user_id": "u1", "item_id": "a", "event_time_ms": TOO_LATE_MS}).encode(), b"{", None],
}


@pytest.mark.parametrize(("topic", "bad"), [(topic, bad) for topic, values in BAD.items() for bad in values])
def test_a_bad_record_is_skipped_and_the_next_one_is_recorded(postgres_url, topic, bad):
    good = {
        "impressions": impression(),
        "recommendations": made(),
        "clicks": json.dumps({"user_id": "u1", "item_id": "a", "event_time_ms": NOW_MS}).encode(),
    }[topic]
    record = RecordRetention(
        PostgresRetentionStore(postgres_url), MemoryPublisher(), arm_of=lambda _: "personal", follow_window_minutes=30
    )
    records = batch(part(topic, [bad, good]))

    assert list(record.handle(records).values()) == [2]
    (arm,) = RetentionReader(postgres_url).report().arms
    assert {"impressions": arm.impressions, "recommendations": arm.lists, "clicks": arm.clicks}[topic] == 1
