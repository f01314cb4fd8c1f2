"""The one decoder of incoming records: every reader of a topic refuses the same records for the same reasons.

A record is first decoded strictly. If that fails, it is decoded leniently (see `lenient`): other spellings are
accepted, unusable optional fields are dropped, and structured CloudEvents are unwrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeVar
from zlib import crc32

import msgspec

from streamrec.contracts.derived import TopKList, UserInterest
from streamrec.contracts.envelopes import unwrap
from streamrec.contracts.event_kind import kind_named_by
from streamrec.contracts.event_time import MIN_EVENT_TIME_MS, moment, unit_of
from streamrec.contracts.incoming import MAX_ID_CHARACTERS, Click, Feedback, Impression, Item, Purchase
from streamrec.contracts.item_key import ids_named_by
from streamrec.contracts.lenient import parse, read_leniently, validation_reason
from streamrec.contracts.listed_items import ListedItems, ListItem
from streamrec.contracts.spellings import is_available, read_id
from streamrec.contracts.topics import CLICKS, FEEDBACK, PURCHASES
from streamrec.domain.event import NO_CONTEXT, Event, EventType, Source
from streamrec.errors import BadRecordError

MAX_RECORD_BYTES = 65_536
"""An event is a few hundred bytes; a larger record is something else."""

MAX_CLOCK_SKEW_MS = 24 * 3_600_000
"""Event times ahead of the record by more than this are refused. Those ahead by less are set to the record's time: an
event cannot happen after it was produced, and one wrong clock must not move the newest event time of all other
users."""

ID_REUSED = "id-reused"
"""The reason for an event that has the id of another one; decoding single records cannot detect it."""

BEST_RATING = 5.0
"""The scale of a rating without one: stars."""

_EVENTS: Mapping[str, msgspec.json.Decoder[Any]] = {
    CLICKS: msgspec.json.Decoder(Click),
    PURCHASES: msgspec.json.Decoder(Purchase),
    FEEDBACK: msgspec.json.Decoder(Feedback),
}
_ITEM = msgspec.json.Decoder(Item)
_INTEREST = msgspec.json.Decoder(UserInterest)
_IMPRESSION = msgspec.json.Decoder(Impression)
_LIST = msgspec.json.Decoder(TopKList)
_KINDS = {kind.name.lower(): kind for kind in EventType}

T = TypeVar("T")


def decode_event(
    source: tuple[str, int],
    offset: int,
    timestamp_ms: int,
    value: bytes | None,
    headers: Mapping[str, bytes],
    *,
    dropped: list[str] | None = None,
) -> Event:
    """Decode a record of `clicks`, `purchases` or `feedback`.

    Parameters
    ----------
    source, offset
        Position of the record in Kafka: topic and partition, offset.
    timestamp_ms
        The record's timestamp: when it was produced, Unix milliseconds.
    value, headers
        As consumed.
    dropped
        Receives the names of dropped optional fields.

    Raises
    ------
    BadRecordError
        If the record can never be applied.
    """
    topic, partition = source
    lost: list[str] = [] if dropped is None else dropped
    message, headers = _read(_EVENTS[topic], value, headers, lost)
    _check_type(message.type, headers)
    check_event_time(message.event_time_ms, timestamp_ms)
    percent = _percent(message, lost) if topic == FEEDBACK else 0
    id_hash = _id_hash(message.event_id, headers)
    return Event(
        user_id=message.user_id,
        item_id=message.item_id,
        event_time_ms=min(message.event_time_ms, timestamp_ms),
        source=Source(_KINDS[message.type], partition),
        offset=offset,
        id_hash=id_hash,
        category=message.category or "",
        list_id=message.list_id or "",
        content_hash=0 if id_hash is None else _content_hash(message, percent),
        percent=percent,
        context=message.context or NO_CONTEXT,
    )


def decode_item(value: bytes | None, key: bytes | None = None, *, dropped: list[str] | None = None) -> Item:
    """Decode a record of `items` that is not a deletion, or raise a `BadRecordError`; see also :func:`withdrawn_by`.

    A record whose key does not name its item is refused: a null value with that key, which may be all that a compacted
    log keeps, could not delete the item. A record without a key is accepted.
    """
    item, _ = _read(_ITEM, value, {}, dropped)
    if key is not None and item.item_id not in ids_named_by(key):
        raise BadRecordError("bad-key", f"the key {key[:80]!r} is not the id of the item, {item.item_id[:80]!r}")
    return item


def deleted_by(key: bytes | None) -> tuple[str, ...]:
    """Return the ids of the items deleted by a record of `items` with this key and a null value.

    More than one if the key is ambiguous. Raises a `BadRecordError` if it names none.
    """
    return ids_named_by(key)


def withdrawn_by(value: bytes | None, key: bytes | None) -> tuple[str, ...]:
    """Return the items that a record of `items` withdraws although it is refused.

    `available` takes effect whatever else is wrong with a record: unless it is true, the item is withdrawn, by its id
    in the message or else by its key.
    """
    try:
        content, _ = unwrap(parse(value or b""), {})
        if not isinstance(content, dict) or "available" not in content or is_available(content["available"]):
            return ()
        own = read_id(content.get("item_id"))
        return (own,) if isinstance(own, str) and 0 < len(own) <= MAX_ID_CHARACTERS else ids_named_by(key)
    except BadRecordError:
        return ()


def decode_impression(value: bytes | None, *, dropped: list[str] | None = None) -> Impression:
    """Decode a record of `impressions`, or raise a `BadRecordError`."""
    return _read(_IMPRESSION, value, {}, dropped)[0]


def event_name_in(value: bytes | None) -> str | None:
    """Return the event id in a value, even if the rest is invalid; `None` if it has none."""
    if value is None or len(value) > MAX_RECORD_BYTES:
        return None
    try:
        content, attributes = unwrap(parse(value), {})
    except BadRecordError:
        return None
    if "ce_id" in attributes:
        return (attributes.get("ce_source", b"") + b"\0" + attributes["ce_id"]).decode()
    event_id = read_id(content.get("event_id")) if isinstance(content, dict) else None
    return event_id if isinstance(event_id, str) and 0 < len(event_id) <= MAX_ID_CHARACTERS else None


def decode_own(decoder: msgspec.json.Decoder[T], value: bytes | None) -> T:
    """Decode a record of one of streamrec's own topics, or raise a `BadRecordError`: others can write to them, too."""
    try:
        return decoder.decode(value or b"")
    except msgspec.ValidationError as error:
        raise BadRecordError(validation_reason(str(error)), str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError("bad-json", str(error)) from None


def decode_interest(value: bytes | None, timestamp_ms: int) -> UserInterest:
    """Decode a record of `user-interests` with this production time, or raise a `BadRecordError`."""
    interest = decode_own(_INTEREST, value)
    check_event_time(max(interest.event_time_ms, interest.sequence[-1].event_time_ms), timestamp_ms)
    return interest


class _EarlierList(msgspec.Struct):
    """A list of a release that stored an object for each item."""

    items: list[ListItem]


_EARLIER_LIST = msgspec.json.Decoder(_EarlierList)


def decode_list(value: bytes) -> TopKList:
    """Decode a list, also one of a release that stored an object for each item.

    Raises
    ------
    msgspec.DecodeError
        If it is neither.
    """
    try:
        return _LIST.decode(value)
    except msgspec.ValidationError as error:
        try:
            items = ListedItems.of(_EARLIER_LIST.decode(value).items)
        except msgspec.ValidationError:
            raise error from None
    return msgspec.convert(msgspec.json.decode(value) | {"items": msgspec.to_builtins(items)}, TopKList)


def check_event_time(event_time_ms: int, timestamp_ms: int) -> None:
    """Raise a `BadRecordError` for an event time more than a day after the production of its record."""
    if event_time_ms <= timestamp_ms + MAX_CLOCK_SKEW_MS:
        return
    detail = (
        f"event_time_ms {moment(event_time_ms)} is more than a day after the record's timestamp, {moment(timestamp_ms)}"
    )
    if timestamp_ms < MIN_EVENT_TIME_MS:
        unit = unit_of(timestamp_ms)
        detail += f": the record's timestamp looks like {unit}" if unit else ": the record's timestamp is wrong"
        detail += ", but must be Unix milliseconds; the producer sets it"
    raise BadRecordError("bad-time", detail)


def _read(
    decoder: msgspec.json.Decoder[T], value: bytes | None, headers: Mapping[str, bytes], dropped: list[str] | None
) -> tuple[T, Mapping[str, bytes]]:
    """Return a message and its headers."""
    try:
        return _decode(decoder, value), headers
    except BadRecordError as error:
        if value is None or error.reason == "too-large":
            raise
    message_type: Any = decoder.type
    return read_leniently(message_type, value, headers, [] if dropped is None else dropped)


def _decode(decoder: msgspec.json.Decoder[T], value: bytes | None) -> T:
    if value is None:
        raise BadRecordError("null-value", "the record has no value")
    if len(value) > MAX_RECORD_BYTES:
        raise BadRecordError("too-large", f"{len(value)} bytes; the limit is {MAX_RECORD_BYTES}")
    _check_encoding(value)
    try:
        message = decoder.decode(value)
    except msgspec.ValidationError as error:
        raise BadRecordError(validation_reason(str(error)), str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecordError("bad-json", str(error)) from None
    return message


def _check_encoding(value: bytes) -> None:
    """Refuse invalid UTF-8, also in ignored fields, which the decoder skips without reading."""
    if value.isascii():
        return
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise BadRecordError("not-utf8", str(error)) from None


def _check_type(expected: str, headers: Mapping[str, bytes]) -> None:
    """Refuse a CloudEvent whose reverse-DNS type does not name the expected kind of event."""
    ce_type = headers.get("ce_type")
    if ce_type is not None and kind_named_by(ce_type.decode(errors="replace"), like=expected) != expected:
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


def _percent(message: Feedback, lost: Sequence[str]) -> int:
    """Return a rating, or the watched part of an item, in percent of its scale.

    Parameters
    ----------
    lost
        Names of the fields that could not be read: a rating on an unknown scale means nothing.
    """
    value, scale = message.value, message.scale
    if message.type == "rating":
        if unknown := {"value", "scale"}.intersection(lost):
            raise BadRecordError("bad-value", f"the {min(unknown)} of the rating cannot be read")
        if value is None:
            raise BadRecordError("missing-field", "a rating needs `value`")
        best = scale or BEST_RATING
        if value > best:
            raise BadRecordError("bad-value", f"the rating {value:g} is above the best one, {best:g}: set `scale`")
        return round(100 * value / best)
    if message.type == "watch":
        return 100 if value is None or scale is None else round(100 * min(1.0, value / scale))
    return 0


def _content_hash(message: Click | Purchase | Feedback, percent: int) -> int:
    """Return a 16-bit digest that distinguishes two events of one user with the same id.

    Times count in whole seconds, the resolution of many exports that are replayed after data loss.
    """
    return crc32(message.item_id.encode(), message.event_time_ms // 1_000 & 0xFFFF_FFFF) + percent & 0xFFFF
