"""Accepted spellings of values: each function returns the value, `None` for absent, or `UNFIT` for unclear."""

from __future__ import annotations

import math
import re

UNFIT = object()
"""Marks a value whose meaning is unclear."""

_LARGEST_EXACT_FLOAT = 2.0**53
_LARGEST_INTEGER = 1 << 127
_MAX_DIGITS = 64
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


def read_id(value: object) -> object:
    """Return an id, also from a whole number: `42` and `42.0` are `"42"`."""
    whole = read_whole(value)
    return value if whole is UNFIT or isinstance(value, str) else str(whole)


def is_available(value: object) -> bool | None:
    """Return the meaning of a value of `available`, `None` if unclear."""
    if isinstance(value, str):
        return _AVAILABLE.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) and value in {0, 1} else None


_AVAILABLE = {
    **dict.fromkeys(("true", "1", "yes", "y", "t", "on"), True),
    **dict.fromkeys(("false", "0", "no", "n", "f", "off"), False),
}


def is_finite(value: object) -> bool:
    """Whether a value is neither NaN nor infinite; an integer may be too large for a float."""
    return not isinstance(value, float) or math.isfinite(value)


def read_whole(value: object) -> object:
    """Return an integer, also from a float or decimal text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < _LARGEST_INTEGER else UNFIT
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT_FLOAT:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        return int(value)
    return UNFIT


def read_number(value: object) -> object:
    """Return a number, also from decimal text."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        return float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value) else UNFIT


def read_text(value: object) -> object:
    """Return text, also from a number; empty text means absent."""
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return str(value)
    text = read_id(value)
    return None if text == "" else text


def read_category(value: object) -> object:
    """Return a category, also from a path of them: `["Shoes", "Boots"]` is `Shoes/Boots`."""
    if not isinstance(value, list):
        return read_text(value)
    steps = [step for step in (read_text(each) for each in value) if isinstance(step, str)]
    return "/".join(steps) or None if len(steps) == len(value) else UNFIT


def read_currency(value: object) -> object:
    """Return a currency in upper case."""
    text = read_text(value)
    return text.strip().upper() if isinstance(text, str) else text


def read_event_type(value: object) -> object:
    """Return an event type in lower case and British spelling, with underscores."""
    if not isinstance(value, str):
        return value
    return value.strip().lower().replace("-", "_").replace(" ", "_").replace("favorite", "favourite")


def read_available(value: object) -> object:
    """Return whether an item is available."""
    available = is_available(value)
    return UNFIT if available is None else available
