"""Reading a record that is not exactly as its schema says: required fields are judged, optional ones may be dropped.

A record is decoded strictly first, which is all that a good one costs. Only one that fails comes here. A value whose
meaning is clear is read (`42` for the id `"42"`, `"eur"` for `"EUR"`); an optional field that is not, or is out of
range, is left out under its name; a required one is refused. Which values fit is said once, by the message types.
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
    """Whether a value that is there has to be right."""
    is_missed: bool
    """Whether there has to be one."""
    null_is_absence: bool
    holder: type[msgspec.Struct]
    """Takes a value that fits the field as `value`; msgspec prepares a struct once, and any other type each time."""


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
    """Return the message in a record and its headers, with a structured CloudEvent's attributes among them.

    Parameters
    ----------
    message_type
        What it has to be.
    value, headers
        As they came.
    dropped
        Takes the names of fields that were left out, `context.<key>` for one key of the context.

    Raises
    ------
    BadRecordError
        If it is not such a message.
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
        detail = f"type {read.get('type')!r:.80} is not that of a {message_type.__name__.lower()}, and may be left out"
    elif read.get("user_id", "") is None:
        detail += "; an event without a user cannot be applied"
    return BadRecordError(reason, detail)


def _fit(field: _Field, value: object, dropped: list[str]) -> object:
    """Return the value of an optional field as it is kept, `None` where it is left out."""
    found: list[str] = []
    with_parts = _WITH_PARTS.get(field.name)
    fit = _OPTIONAL[field.name](value) if with_parts is None else with_parts(value, found)
    if fit is not None and not _fits(fit, field.holder):
        fit, found = _WITHOUT.get(field.name), [field.name]
    dropped.extend(_readable(name) for name in found[: _MAX_DROPPED - len(dropped)])
    return fit


def parse(value: bytes) -> object:
    """Return the JSON in a record, after a byte order mark if there is one; NaN and Infinity come as floats.

    Raises
    ------
    BadRecordError
        If it is something else.
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
    try:  # the standard library's decoder knows NaN, which many producers write
        content = json.loads(text, parse_int=_integer)
        msgspec.json.encode(content)  # finds lone surrogates
    except (ValueError, RecursionError):
        raise refusal from None
    return content


def _integer(digits: str) -> float:
    """Return a whole number; one that is too long for Python to read is beyond all bounds anyway."""
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def validation_reason(detail: str) -> str:
    """Return the reason that a validation error stands for."""
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
"""Fields of which null is no absence."""

_WITHOUT: dict[str, object] = {"available": False}
"""What holds where a field cannot be read, if that is not its default: an item is shown only where it says so."""


def _finite(name: str, value: object) -> object:
    if not is_finite(value):
        raise BadRecordError("bad-json", f"{name} is {value}, which is no JSON")
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
    """Return a context without the keys that cannot be kept."""
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
    """Return the ids in a list that are some, at most as many as fit."""
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
"""By field, how a value is read that has to be right."""

_OPTIONAL: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(("event_id", "list_id", "order_id", "title"), read_text),
    **dict.fromkeys(("position", "quantity"), read_whole),
    "price": read_number,
    "category": read_category,
    "currency": read_currency,
    "available": read_available,
}
"""By field, how a value is read that may be missing."""

_WITH_PARTS: dict[str, Callable[[object, list[str]], object]] = {"context": _context, "item_ids": _ids}
"""By field, how a value is read of which parts may be dropped, under their names."""


def _readable(name: str) -> str:
    """Return a field's name for a log line and a metric: short, and nothing that a terminal obeys."""
    return "".join(character if character.isprintable() else "?" for character in name[:_MAX_NAME])
