"""The one decoder of incoming records: every reader of a topic refuses the same records for the same reasons."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeVar

import msgspec

from streamrec.contracts.incoming import Click, Impression, Item, Purchase
from streamrec.domain.event import Event, EventType, Source
from streamrec.errors import BadRecordError

MAX_RECORD_BYTES = 65_536
"""An event is a few hundred bytes; a record beyond this is something else."""

MAX_CLOCK_SKEW_MS = 24 * 3_600_000
"""A clock that is ahead by more than this is refused; one that is ahead by less is taken for a wrong clock: nothing
happens later than it is told, and one such device must not move the newest event time of all others."""

_CLICK = msgspec.json.Decoder(Click)
_PURCHASE = msgspec.json.Decoder(Purchase)
_ITEM = msgspec.json.Decoder(Item)
_IMPRESSION = msgspec.json.Decoder(Impression)
_TYPE_NAMES = {EventType.CLICK: "click", EventType.PURCHASE: "purchase"}

T = TypeVar("T")


def decode_event(
    source: Source, offset: int, timestamp_ms: int, value: bytes | None, headers: Mapping[str, bytes]
) -> Event:
    """Decode a record of `clicks` or `purchases`.

    Parameters
    ----------
    source, offset
        Where the record stands.
    timestamp_ms
        The record's own timestamp: when it was produced.
    value, headers
        As they came.

    Raises
    ------
    BadRecordError
        If the record can never be applied.
    """
    message: Click | Purchase = (
        _decode(_CLICK, value) if source.event_type is EventType.CLICK else _decode(_PURCHASE, value)
    )
    _check_type(_TYPE_NAMES[source.event_type], headers)
    check_event_time(message.event_time_ms, timestamp_ms)
    return Event(
        user_id=message.user_id,
        item_id=message.item_id,
        event_time_ms=min(message.event_time_ms, timestamp_ms),
        source=source,
        offset=offset,
        id_hash=_id_hash(message.event_id, headers),
        category=message.category or "",
        list_id=message.list_id or "",
    )


def decode_item(value: bytes) -> Item:
    """Decode a record of `items` that is no deletion, or raise a `BadRecordError`."""
    return _decode(_ITEM, value)


def decode_impression(value: bytes | None) -> Impression:
    """Decode a record of `impressions`, or raise a `BadRecordError`."""
    return _decode(_IMPRESSION, value)


def decode_own(decoder: msgspec.json.Decoder[T], value: bytes | None) -> T:
    """Decode a record of a topic that streamrec itself writes, or raise a `BadRecordError`: others can write, too."""
    try:
        return decoder.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError("bad-json", str(error)) from None


def check_event_time(event_time_ms: int, timestamp_ms: int) -> None:
    """Refuse an event time that is over a day after the production of its record, with a `BadRecordError`."""
    if event_time_ms > timestamp_ms + MAX_CLOCK_SKEW_MS:
        raise BadRecordError("bad-time", f"event_time_ms {event_time_ms} is over a day after production")


def _decode(decoder: msgspec.json.Decoder[T], value: bytes | None) -> T:
    if value is None:
        raise BadRecordError("null-value", "the record has no value")
    if len(value) > MAX_RECORD_BYTES:
        raise BadRecordError("too-large", f"{len(value)} bytes, at most {MAX_RECORD_BYTES} are taken")
    _check_encoding(value)
    try:
        message = decoder.decode(value)
    except msgspec.ValidationError as error:
        raise BadRecordError(_validation_reason(str(error)), str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecordError("bad-json", str(error)) from None
    return message


def _check_encoding(value: bytes) -> None:
    """Refuse what is not UTF-8, also in fields that are ignored: the decoder passes over those unread."""
    if value.isascii():
        return
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise BadRecordError("not-utf8", str(error)) from None


def _validation_reason(detail: str) -> str:
    if "missing required field" in detail:
        return "missing-field"
    if "$.type" in detail:
        return "unknown-type"
    if "$.event_time_ms" in detail and (" >= " in detail or " <= " in detail):
        return "bad-time"
    if detail.startswith("Expected") and "got" in detail:
        return "wrong-type"
    return "bad-value"


def _check_type(expected: str, headers: Mapping[str, bytes]) -> None:
    """Refuse a CloudEvent of another kind: a segment of its reverse-DNS type must name the kind of event."""
    ce_type = headers.get("ce_type")
    if ce_type is not None and expected.encode() not in ce_type.split(b"."):
        raise BadRecordError("unknown-type", f"ce_type {ce_type[:80]!r} does not name a {expected}")


def _id_hash(event_id: str | None, headers: Mapping[str, bytes]) -> int | None:
    ce_id = headers.get("ce_id")
    if ce_id is not None:
        name = b"ce\0" + headers.get("ce_source", b"") + b"\0" + ce_id
    elif event_id is not None:
        name = b"id\0" + event_id.encode()
    else:
        return None
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little", signed=True)
