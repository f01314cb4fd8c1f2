"""Validation of rows by the contract's own decoder, before they are published or scored."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from streamrec.contracts.decode import decode_event
from streamrec.contracts.incoming import Click, ContextKey, ContextValue, Feedback, Purchase
from streamrec.contracts.topics import topic_of
from streamrec.domain.event import EventType
from streamrec.errors import BadRecordError

REQUIRED = ("user_id", "item_id", "event_time_ms")
MAX_CONTEXT = 32
"""Maximum number of keys in a context."""

Message = Click | Purchase | Feedback

_MESSAGES: Mapping[EventType, type[Message]] = {EventType.CLICK: Click, EventType.PURCHASE: Purchase}
_FIELDS = {
    message: {each.name: each.type for each in msgspec.structs.fields(message)}
    for message in (Click, Purchase, Feedback)
}
_NAMED = re.compile(rf"\b({'|'.join((*REQUIRED, 'type'))})\b")

_encoder = msgspec.json.Encoder()


class Verdict(NamedTuple):
    """Result of validating a row."""

    message: Message | None
    reason: str = ""
    """The reason if it was refused, as in a dead letter."""
    field: str = ""
    """The invalid field."""
    detail: str = ""
    dropped: tuple[str, ...] = ()
    """Dropped optional fields; those of the context as `context.NAME`."""


def judge(kind: EventType, fields: Mapping[str, Any], now_ms: Callable[[], int] | None = None) -> Verdict:
    """Build a message from fields, and validate it like a worker.

    Parameters
    ----------
    kind
        Kind of event.
    fields
        Values by name; unknown names are ignored.
    now_ms
        Production time of its record; now by default.
    """
    message = _MESSAGES.get(kind, Feedback)
    known = _FIELDS[message]
    values = {name: fields[name] for name in REQUIRED if fields.get(name) is not None}
    dropped: list[str] = []
    for name, value in fields.items():
        if name in values or name not in known or name in {*REQUIRED, "type"} or value is None:
            continue
        taken = _context(value, dropped) if name == "context" else _value(value, known[name], name, dropped)
        if taken is not None:
            values[name] = taken
    if message is Feedback:
        values["type"] = kind.name.lower()
    produced_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms()
    try:
        decode_event((topic_of(kind), 0), 0, produced_ms, _encoder.encode(values), {})
    except BadRecordError as error:
        named = _NAMED.search(error.detail)
        return Verdict(None, error.reason, named[1] if named else "", error.detail)
    except (UnicodeEncodeError, TypeError) as error:
        return Verdict(None, "not-utf8" if isinstance(error, UnicodeEncodeError) else "wrong-type", "", str(error))
    return Verdict(message(**values), dropped=tuple(dropped))


def _value(value: object, expected: Any, name: str, dropped: list[str]) -> Any:  # noqa: ANN401  # a contract type
    try:
        taken = msgspec.convert(value, expected)
        _encoder.encode(taken)
    except (msgspec.ValidationError, UnicodeEncodeError):
        dropped.append(name)
        return None
    return taken


def _context(value: object, dropped: list[str]) -> dict[str, Any] | None:
    """Return the valid part of a context."""
    if not isinstance(value, dict):
        dropped.append("context")
        return None
    context: dict[str, Any] = {}
    for key, each in value.items():
        name = _value(key, ContextKey, f"context.{str(key)[:64]}", dropped)
        taken = None if name is None else _value(each, ContextValue, f"context.{name}", dropped)
        if taken is not None and len(context) < MAX_CONTEXT:
            context[name] = taken
        elif taken is not None:
            dropped.append("context")
    return context or None
