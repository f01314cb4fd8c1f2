"""Lenient decoding of records that do not match their schema: invalid optional fields are dropped.

Records are first decoded strictly, so a valid one costs nothing extra; only those that fail are decoded here. A value
whose meaning is clear is converted (`42` for the id `"42"`, `"eur"` for `"EUR"`). Otherwise, or if it is out of range,
an optional field is dropped and reported by name, and a required field makes the record refused. Valid values are
defined by the message types alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec

from streamrec.contracts.envelopes import check_framing, has_all, message_in, unwrap
from streamrec.contracts.event_time import read_event_time
from streamrec.contracts.incoming import MAX_CONTEXT_FIELDS, MAX_SHOWN_ITEMS, ContextKey, ContextValue, Id
from streamrec.contracts.spellings import (
    UNFIT,
    is_finite,
    read_available,
    read_category,
    read_currency,
    read_event_type,
    read_id,
    read_number,
    read_text,
    read_whole,
)
from streamrec.errors import BadRecordError

BOM = b"\xef\xbb\xbf"

_MAX_DIGITS = 1_000

_MAX_NAME = 64
_MAX_DROPPED = 50

T = TypeVar("T", bound=msgspec.Struct)


class _Field(NamedTuple):
    """A field of a message."""

    name: str
    required: bool
    """Whether an invalid value makes the record refused."""
    is_missed: bool
    """Whether the field is required."""
    null_is_absence: bool
    holder: type[msgspec.Struct]
    """Struct with the field's type as its only field `value`; msgspec prepares a struct once, and any other type each
    time."""


@cache
def _fields(message_type: type[msgspec.Struct]) -> tuple[_Field, ...]:
    return tuple(
        _Field(
            field.name,
            required=field.required or field.name == "type",
            is_missed=field.required,
            null_is_absence=not field.required and field.name not in _NULL_MEANS,
            holder=_holder(field.type),
        )
        for field in msgspec.structs.fields(message_type)
    )


def _holder(wanted: object) -> type[msgspec.Struct]:
    return msgspec.defstruct("Holder", [("value", wanted)])


def read_leniently(
    message_type: type[T], value: bytes, headers: Mapping[str, bytes], dropped: list[str]
) -> tuple[T, Mapping[str, bytes]]:
    """Return the message in a record and its headers, including the attributes of a structured CloudEvent.

    Parameters
    ----------
    message_type
        Expected type.
    value, headers
        As consumed.
    dropped
        Receives the names of dropped fields, `context.<key>` for one key of the context.

    Raises
    ------
    BadRecordError
        If it is not a message of this type.
    """
    content, attributes = parse(value), dict[str, bytes]()
    fields = _fields(message_type)
    required = tuple(field.name for field in fields if field.is_missed)
    if not has_all(content, required):
        content, attributes = unwrap(content, headers)
    message = message_in(content, required)
    read: dict[str, Any] = {}
    for field in fields:
        found = message.get(field.name)
        if field.name not in message or (found is None and field.null_is_absence):
            continue
        if field.required:
            read[field.name] = _REQUIRED[field.name](_finite(field.name, found))
        elif (fit := _fit(field, found, dropped)) is not None:
            read[field.name] = fit
    try:
        return msgspec.convert(read, message_type), {**attributes, **headers}
    except msgspec.ValidationError as error:
        raise _refusal(error, message_type, read) from None


def _refusal(
    error: msgspec.ValidationError, message_type: type[msgspec.Struct], read: Mapping[str, Any]
) -> BadRecordError:
    detail, reason = str(error), validation_reason(str(error))
    if reason == "unknown-type":
        detail = f"type {read.get('type')!r:.80} is not that of a {message_type.__name__.lower()}, and may be omitted"
    elif read.get("user_id", "") is None:
        detail += "; an event without a user cannot be applied"
    return BadRecordError(reason, detail)


def _fit(field: _Field, value: object, dropped: list[str]) -> object:
    """Return the converted value of an optional field, `None` if it is dropped."""
    found: list[str] = []
    with_parts = _WITH_PARTS.get(field.name)
    fit = _OPTIONAL[field.name](value) if with_parts is None else with_parts(value, found)
    if fit is not None and not _fits(fit, field.holder):
        fit, found = _WITHOUT.get(field.name), [field.name]
    dropped.extend(_readable(name) for name in found[: _MAX_DROPPED - len(dropped)])
    return fit


def parse(value: bytes) -> object:
    """Parse the JSON in a record, after an optional byte order mark; NaN and Infinity are parsed as floats.

    Raises
    ------
    BadRecordError
        If it is not JSON.
    """
    check_framing(value)
    try:
        text = value.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise BadRecordError("not-utf8", str(error)) from None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        refusal = BadRecordError("bad-json", str(error))
    try:  # the standard library's decoder accepts NaN, which many producers write
        content = json.loads(text, parse_int=_integer)
        msgspec.json.encode(content)  # finds lone surrogates
    except (ValueError, RecursionError):
        raise refusal from None
    return content


def _integer(digits: str) -> float:
    """Parse an integer; one too long for Python to parse is out of any range anyway."""
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def validation_reason(detail: str) -> str:
    """Return the reason for a validation error."""
    if "missing required field" in detail:
        return "missing-field"
    if "$.type" in detail:
        return "unknown-type"
    if "$.event_time_ms" in detail and (" >= " in detail or " <= " in detail):
        return "bad-time"
    if detail.startswith("Expected") and "got" in detail:
        return "wrong-type"
    return "bad-value"


_NULL_MEANS = frozenset({"available"})
"""Fields for which null does not mean absent."""

_WITHOUT: dict[str, object] = {"available": False}
"""Values of fields that cannot be read, if other than the default: an item is available only if its record clearly says
so."""


def _finite(name: str, value: object) -> object:
    if not is_finite(value):
        raise BadRecordError("bad-json", f"{name} is {value}, which is not JSON")
    return value


def _fits(value: object, holder: type[msgspec.Struct]) -> bool:
    if value is UNFIT:
        return False
    try:
        msgspec.convert({"value": value}, holder)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


_CONTEXT_KEY, _CONTEXT_VALUE, _ID = _holder(ContextKey), _holder(ContextValue), _holder(Id)


def _context(value: object, dropped: list[str]) -> object:
    """Return a context without the keys that must be dropped."""
    if not isinstance(value, dict):
        return UNFIT
    kept: dict[str, Any] = {}
    for key, each in value.items():
        if (
            len(kept) < MAX_CONTEXT_FIELDS
            and is_finite(each)
            and _fits(key, _CONTEXT_KEY)
            and _fits(each, _CONTEXT_VALUE)
        ):
            kept[key] = each
        else:
            dropped.append(f"context.{key}")
    return kept


def _ids(value: object, dropped: list[str]) -> object:
    """Return the valid ids in a list, up to its maximum length."""
    if not isinstance(value, list):
        return UNFIT
    ids = [each for each in map(read_id, value) if _fits(each, _ID)][:MAX_SHOWN_ITEMS]
    if len(ids) < len(value):
        dropped.append("item_ids")
    return ids


_REQUIRED: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(("user_id", "item_id", "list_id"), read_id),
    "event_time_ms": read_event_time,
    "type": read_event_type,
}
"""Converters of fields whose values must be valid, by field."""

_OPTIONAL: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(("event_id", "list_id", "order_id", "title"), read_text),
    **dict.fromkeys(("position", "quantity"), read_whole),
    **dict.fromkeys(("price", "value", "scale"), read_number),
    "category": read_category,
    "currency": read_currency,
    "available": read_available,
}
"""Converters of optional fields, by field."""

_WITH_PARTS: dict[str, Callable[[object, list[str]], object]] = {"context": _context, "item_ids": _ids}
"""Converters of fields of which parts may be dropped and reported by name, by field."""


def _readable(name: str) -> str:
    """Return a field's name for logs and metrics: short, and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in name[:_MAX_NAME])
