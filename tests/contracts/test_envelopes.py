"""Structured CloudEvents are read; any other envelope is named in the reason, with what to do about it."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from builders import NOW_MS, click

from streamrec.contracts.decode import decode_event
from streamrec.errors import BadRecordError
from streamrec.service.batch import TopicPartition

CLICKS, PURCHASES = TopicPartition("clicks", 3), TopicPartition("purchases", 3)
MESSAGE = {"user_id": "u1", "item_id": "a", "event_time_ms": NOW_MS}
ATTRIBUTES = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "shop.click"}


def decode(content, source=CLICKS, **headers):
    value = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-") if name == "content_type" else name: value for name, value in headers.items()}
    return decode_event(source, 17, NOW_MS, value, named)


def refusal(content, source=CLICKS, **headers):
    with pytest.raises(BadRecordError) as refused:
        decode(content, source, **headers)
    return refused.value


DIALECTS = {
    "data is an object": {"data": MESSAGE},
    "data is JSON text": {"data": json.dumps(MESSAGE)},
    "data is in base64": {"data_base64": b64encode(json.dumps(MESSAGE).encode()).decode()},
    "with a content type of the data": {"data": MESSAGE, "datacontenttype": "application/json", "partitionkey": "u1"},
}
STRUCTURED = b"application/cloudevents+json; charset=UTF-8"


@pytest.mark.parametrize("data", DIALECTS.values(), ids=DIALECTS.keys())
@pytest.mark.parametrize("headers", [{}, {"content_type": STRUCTURED}, {"content_type": b"application/json"}])
def test_a_structured_cloudevent_is_read_as_one_in_binary_mode(data, headers):
    binary = decode(MESSAGE, ce_id=b"e-1", ce_source=b"/shop", ce_type=b"shop.click")
    assert binary.id_hash is not None
    assert decode(ATTRIBUTES | data, **headers) == binary


def test_the_type_of_a_structured_cloudevent_is_judged():
    assert refusal(ATTRIBUTES | {"type": "shop.purchase", "data": MESSAGE}).reason == "unknown-type"
    assert decode(ATTRIBUTES | {"type": "shop.ItemPurchased", "data": MESSAGE}, PURCHASES)


def test_the_data_of_a_cloudevent_may_be_read_leniently_too():
    assert decode(ATTRIBUTES | {"data": MESSAGE | {"item_id": 7, "category": {}}}).item_id == "7"


@pytest.mark.parametrize(
    "data",
    [{}, {"data": None}, {"data": "click"}, {"data_base64": "?"}, {"data_base64": 7}, {"data_base64": "e30"}],
)
def test_a_cloudevent_without_readable_data_is_refused_as_one(data):
    error = refusal(ATTRIBUTES | data)
    assert error.reason == "envelope"
    assert "CloudEvent" in error.detail


def test_the_fields_of_a_cloudevents_data_are_judged():
    assert refusal(ATTRIBUTES | {"data": {"user_id": "u1"}}).reason == "missing-field"
    assert refusal(ATTRIBUTES | {"data": [MESSAGE]}).reason == "envelope"


def connect(payload):
    return {"schema": {"type": "struct"}, "payload": payload}


CHANGE = {"before": None, "after": MESSAGE, "source": {"connector": "postgresql"}, "op": "c", "ts_ms": NOW_MS}
ENVELOPES = {
    "Debezium": (CHANGE, "ExtractNewRecordState"),
    "Debezium with a schema": (connect(CHANGE), "ExtractNewRecordState"),
    "Debezium, payload alone": ({"payload": CHANGE}, "ExtractNewRecordState"),
    "Debezium, a deletion": ({"before": MESSAGE, "after": None, "op": "d"}, "ExtractNewRecordState"),
    "Connect": (connect(MESSAGE), "schemas.enable=false"),
    "Avro": (b"\x00\x00\x00\x00\x07\x04u1\x02a\x9a\x8b\xd3", "schema id 7"),
    "JSON Schema": (b"\x00\x00\x00\x01\x00" + json.dumps(MESSAGE).encode(), "JSON Schema of a schema registry"),
    "Glue": (b"\x03\x00" + bytes(range(100, 116)) + b"\x04u1", "Glue"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "compression.type"),
    "JSON twice": (json.dumps(MESSAGE), "encoded twice"),
    "an array": ([MESSAGE, MESSAGE], "array of 2"),
    "Google Analytics": ({"client_id": "1.2", "events": [{"name": "view_item"}]}, "Google Analytics"),
    "Segment": ({"type": "track", "event": "Product Viewed", "anonymousId": "x", "properties": {}}, "Segment"),
    "Snowplow": ({"schema": "iglu:com.acme/click/jsonschema/1-0-0", "data": {}}, "Snowplow"),
    "kcat -J": ({"topic": "clicks", "offset": 3, "payload": json.dumps(MESSAGE)}, "'payload'"),
    "Maxwell": ({"database": "shop", "type": "insert", "data": MESSAGE}, "'data'"),
    "an order of several items": (
        {"user_id": "u1", "order_id": "o", "items": [{"item_id": "a"}]},
        "one message per item",
    ),
}


@pytest.mark.parametrize(("content", "said"), ENVELOPES.values(), ids=ENVELOPES.keys())
@pytest.mark.parametrize("source", [CLICKS, PURCHASES], ids=["clicks", "purchases"])
def test_an_envelope_is_named_with_what_to_do(content, said, source):
    error = refusal(content, source)
    assert error.reason == "envelope"
    assert "looks like" in error.detail
    assert said in error.detail


def test_an_array_of_cloudevents_is_named():
    assert "batch" in refusal([ATTRIBUTES], content_type=b"application/cloudevents-batch+json").detail


def test_what_is_no_envelope_says_what_is_missing_and_what_was_found():
    error = refusal({"userId": "u1", "item_id": "a", "event_time_ms": NOW_MS})
    assert error.reason == "missing-field"
    assert "`user_id`" in error.detail
    assert "'userId'" in error.detail


def test_a_message_that_is_not_inside_a_cloudevent_is_read_whatever_its_other_fields_are_called():
    fields = {"specversion": "1.0", "id": "e-1", "type": "click", "position": "first"}
    assert decode(MESSAGE | fields, content_type=STRUCTURED).id_hash is None


def test_a_good_record_may_have_the_fields_of_any_envelope():
    assert decode(click("u1", "a", before=None, after={}, op="c", payload={}, schema={}, items=[]))
