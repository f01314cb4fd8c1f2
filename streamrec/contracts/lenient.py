"""Reading a record that is not exactly as its schema says: required fields are judged, optional ones may be dropped.

A record is decoded strictly first, which is all that a good one costs. Only one that fails comes here. A value whose
meaning is clear is read (`42` for the id `"42"`, `"eur"` for `"EUR"`); an optional field that is not, or is out of
range, is left out under its name; a required one is refused. Which values fit is said once, by the message types.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec

from streamrec.contracts.envelopes import check_framing, has_all, message_in, unwrap
from streamrec.contracts.event_time import read_event_time
from streamrec.contracts.incoming import MAX_CONTEXT_FIELDS, MAX_SHOWN_ITEMS, ContextKey, ContextValue, Id
from streamrec.errors import BadRecordError

BOM = b"\xef\xbb\xbf"

_LARGEST_EXACT_FLOAT = 2.0**53
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")

_UNFIT = object()
"""Stands for a value that means nothing."""

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
    fit = _OPTIONAL[field.name](value, found)
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


def read_id(value: object) -> object:
    """Return an id as text where it is a whole number: `42` and `42.0` are `"42"`."""
    whole = _whole(value)
    return value if whole is _UNFIT or isinstance(value, str) else str(whole)


def is_available(value: object) -> bool | None:
    """Return what a value says of `available`, `None` where that is not clear."""
    if isinstance(value, str):
        return _AVAILABLE.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) and value in {0, 1} else None


_AVAILABLE = {
    **dict.fromkeys(("true", "1", "yes", "y", "t", "on"), True),
    **dict.fromkeys(("false", "0", "no", "n", "f", "off"), False),
}

_NULL_MEANS = frozenset({"available"})
"""Fields of which null is no absence."""

_WITHOUT: dict[str, object] = {"available": False}
"""What holds where a field cannot be read, if that is not its default: an item is shown only where it says so."""


def _is_finite(value: object) -> bool:
    """Whether a value is anything but NaN and infinity; whole numbers are no floats and may be too large for one."""
    return not isinstance(value, float) or math.isfinite(value)


def _finite(name: str, value: object) -> object:
    if not _is_finite(value):
        raise BadRecordError("bad-json", f"{name} is {value}, which is no JSON")
    return value


def _fits(value: object, holder: type[msgspec.Struct]) -> bool:
    if value is _UNFIT:
        return False
    try:
        msgspec.convert({"value": value}, holder)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


_CONTEXT_KEY, _CONTEXT_VALUE, _ID = _holder(ContextKey), _holder(ContextValue), _holder(Id)


def _whole(value: object) -> object:
    """Return a whole number, also one written as a float or in digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 1 << 127 else _UNFIT
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT_FLOAT:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_NAME:
        return int(value)
    return _UNFIT


def _number(value: object, _dropped: list[str]) -> object:
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        return float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value) else _UNFIT


def _text(value: object, _dropped: list[str]) -> object:
    """Return text, also of a number; an empty one says nothing."""
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return str(value)
    text = read_id(value)
    return None if text == "" else text


def _category(value: object, dropped: list[str]) -> object:
    """Return a category, also from a path of them: `["Shoes", "Boots"]` is `Shoes/Boots`."""
    if not isinstance(value, list):
        return _text(value, dropped)
    steps = [step for step in (_text(each, dropped) for each in value) if isinstance(step, str)]
    return "/".join(steps) or None if len(steps) == len(value) else _UNFIT


def _currency(value: object, dropped: list[str]) -> object:
    text = _text(value, dropped)
    return text.strip().upper() if isinstance(text, str) else text


def _context(value: object, dropped: list[str]) -> object:
    """Return a context without the keys that cannot be kept."""
    if not isinstance(value, dict):
        return _UNFIT
    kept: dict[str, Any] = {}
    for key, each in value.items():
        if (
            len(kept) < MAX_CONTEXT_FIELDS
            and _is_finite(each)
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
        return _UNFIT
    ids = [each for each in map(read_id, value) if _fits(each, _ID)][:MAX_SHOWN_ITEMS]
    if len(ids) < len(value):
        dropped.append("item_ids")
    return ids


def _event_type(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _available(value: object, _dropped: list[str]) -> object:
    available = is_available(value)
    return _UNFIT if available is None else available


def _count(value: object, _dropped: list[str]) -> object:
    return _whole(value)


_REQUIRED: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(("user_id", "item_id", "list_id"), read_id),
    "event_time_ms": read_event_time,
    "type": _event_type,
}
"""By field, how a value is read that has to be right."""

_OPTIONAL: dict[str, Callable[[object, list[str]], object]] = {
    **dict.fromkeys(("event_id", "list_id", "order_id", "title"), _text),
    **dict.fromkeys(("position", "quantity"), _count),
    "price": _number,
    "category": _category,
    "currency": _currency,
    "context": _context,
    "item_ids": _ids,
    "available": _available,
}
"""By field, how a value is read that may be missing; `None` says nothing, `_UNFIT` is dropped."""


def _readable(name: str) -> str:
    """Return a field's name for a log line and a metric: short, and nothing that a terminal obeys."""
    return "".join(character if character.isprintable() else "?" for character in name[:_MAX_NAME])
