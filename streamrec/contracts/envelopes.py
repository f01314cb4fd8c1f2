"""Wrapped messages: structured CloudEvents are unwrapped, other envelopes are refused by name.

Reporting only missing fields would mislead the producer. If a record has the shape of a well-known envelope, the reason
is `envelope` and the detail says how to send the message without it.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec

from streamrec.errors import BadRecordError

_FRAME_BYTES = 5
"""A schema registry's frame: a zero byte and the id of the schema, four bytes, big-endian."""

_GLUE_FRAME_BYTES = 18

_MAX_NAMES = 5

_SEGMENT_CALLS = frozenset({"alias", "group", "identify", "page", "screen", "track"})

_SEGMENT_FIELDS = frozenset({"anonymousId", "messageId", "userId"})
_GA4_FIELDS = frozenset({"app_instance_id", "client_id", "timestamp_micros"})

_LINES = ("items", "line_items", "lineItems", "lines", "order_items", "products")


def check_framing(value: bytes) -> None:
    """Refuse the frame of another serializer, by name."""
    if len(value) > _FRAME_BYTES and value[0] == 0:
        schema_id = int.from_bytes(value[1:_FRAME_BYTES], "big")
        kind = "JSON Schema" if value[_FRAME_BYTES:].lstrip().startswith(b"{") else "Avro or Protobuf"
        advice = "configure the producer with a plain JSON serializer"
        raise _envelope(f"{kind} of a schema registry (magic byte 0, schema id {schema_id})", advice)
    if len(value) > _GLUE_FRAME_BYTES and value[0] == 3 and value[1] in {0, 5}:
        raise _envelope(
            "a record of the AWS Glue Schema Registry", "configure the producer with a plain JSON serializer"
        )
    if value.startswith(b"Obj\x01"):
        raise _envelope("an Avro file", "send JSON")
    if value.startswith(b"\x1f\x8b"):
        raise _envelope("gzip", "compress with the producer's compression.type, not the value itself")


def unwrap(content: object, headers: Mapping[str, bytes]) -> tuple[object, dict[str, bytes]]:
    """Return the message in a structured CloudEvent and the event's attributes, named as headers are in binary mode.

    Anything else is returned unchanged, without attributes. Both dialects of the Python SDK are read: `data` as an
    object or as JSON text, and `data_base64`.

    Raises
    ------
    BadRecordError
        If it is a CloudEvent whose data cannot be read, or a batch of them.
    """
    content_type = headers.get("content-type", b"").split(b";")[0].strip().lower()
    if content_type.startswith(b"application/cloudevents-batch"):
        raise _envelope("a batch of CloudEvents", "send one event per record")
    if not isinstance(content, dict):
        return content, {}
    if "specversion" not in content and content_type != b"application/cloudevents+json":
        return content, {}
    attributes = {
        f"ce_{name}": text.encode() for name in ("id", "source", "type") if isinstance(text := content.get(name), str)
    }
    return _event_data(content), attributes


def _event_data(event: dict[str, Any]) -> object:
    if (encoded := event.get("data_base64")) is not None:
        try:
            return msgspec.json.decode(b64decode(encoded, validate=True))
        except (TypeError, ValueError, binascii.Error, RecursionError) as error:
            raise BadRecordError(
                "envelope", f"the data_base64 of the CloudEvent is not JSON in base64: {error}"
            ) from None
    data = event.get("data")
    if isinstance(data, str):
        try:
            return msgspec.json.decode(data)
        except (ValueError, RecursionError) as error:
            raise BadRecordError("envelope", f"the data of the CloudEvent is text but not JSON: {error}") from None
    if data is None:
        raise BadRecordError("envelope", "the CloudEvent has no data: the message belongs in `data`")
    return data


def has_all(content: object, required: tuple[str, ...]) -> bool:
    """Whether a value is an object with all of these fields, i.e. the message itself."""
    return isinstance(content, dict) and all(name in content for name in required)


def message_in(content: object, required: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a message.

    Raises
    ------
    BadRecordError
        If it is not an object, or lacks a field because the message is inside an envelope.
    """
    if not isinstance(content, dict):
        _refuse_shape(content)
    elif any(name not in content for name in required):
        _name_envelope(content, required)
    return content  # type: ignore[return-value]  # _refuse_shape does not return


def _refuse_shape(content: object) -> None:
    if isinstance(content, str) and content.lstrip().startswith(("{", "[")):
        raise _envelope("JSON that was encoded twice (a string that holds JSON)", "encode the message once")
    if isinstance(content, list) and any(isinstance(each, dict) for each in content):
        raise _envelope(f"an array of {len(content)} messages", "send one message per record")
    found = {str: "a string", list: "an array", bool: "a boolean", type(None): "null"}.get(type(content), "a number")
    raise BadRecordError("wrong-type", f"Expected `object`, got {found}")


def _name_envelope(content: dict[str, Any], required: tuple[str, ...]) -> None:
    for refusal in (_of_a_tool(content, required), _of_an_order(content), _of_own_making(content, required)):
        if refusal is not None:
            raise refusal
    missing = next(name for name in required if name not in content)
    found = ", ".join(repr(name[:40]) for name in list(content)[:_MAX_NAMES]) or "none"
    raise BadRecordError("missing-field", f"Object missing required field `{missing}`; fields found: {found}")


def _of_a_tool(content: dict[str, Any], required: tuple[str, ...]) -> BadRecordError | None:
    """Recognise the envelopes of common tools."""
    wanted = "map its fields: " + ", ".join(required)
    if _is_debezium(content) or _is_debezium(content.get("payload")):
        return _envelope("a Debezium change event", "unwrap it with the transform ExtractNewRecordState")
    if "schema" in content and "payload" in content:
        return _envelope("Kafka Connect's JSON with a schema", "set value.converter.schemas.enable=false")
    if isinstance(content.get("events"), list) and content.keys() & _GA4_FIELDS:
        return _envelope("a Google Analytics 4 request", "send one message per event and item")
    called = content.get("type")
    if isinstance(called, str) and called in _SEGMENT_CALLS and content.keys() & _SEGMENT_FIELDS:
        return _envelope("a Segment call", wanted)
    schema = content.get("schema")
    if isinstance(schema, str) and schema.startswith("iglu:"):
        return _envelope("Snowplow's self-describing JSON", wanted)
    return None


def _of_an_order(content: dict[str, Any]) -> BadRecordError | None:
    for name in _LINES:
        if "item_id" not in content and isinstance(content.get(name), list):
            return _envelope(f"an order with lines in {name!r}", "send one message per item")
    return None


def _of_own_making(content: dict[str, Any], required: tuple[str, ...]) -> BadRecordError | None:
    """Recognise an object with the message in one of its fields, as an object or as text."""
    for name, inner in content.items():
        is_object = isinstance(inner, dict) or (isinstance(inner, str) and inner.lstrip().startswith("{"))
        if is_object and all(field in inner for field in required):
            return _envelope(f"an envelope with the message in {name[:80]!r}", "send the message alone")
    return None


def _is_debezium(content: object) -> bool:
    return (
        isinstance(content, dict) and "after" in content and bool(content.keys() & {"before", "op", "source", "ts_ms"})
    )


def _envelope(looks_like: str, advice: str) -> BadRecordError:
    return BadRecordError("envelope", f"looks like {looks_like}: {advice}")
