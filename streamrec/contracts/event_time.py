"""Parsing of event times, with hints for those in a wrong unit or format."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from streamrec.errors import BadRecordError

MIN_EVENT_TIME_MS = 631_152_000_000
MAX_EVENT_TIME_MS = 253_402_300_799_999
"""From 1990 to 9999. Units do not overlap: such a time in seconds, microseconds or nanoseconds is out of range."""

_DIGITS = re.compile(r"[0-9]{1,20}")
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_UNITS = (("seconds", 1_000.0), ("microseconds", 1 / 1_000), ("nanoseconds", 1 / 1_000_000))
_NEWEST_PLAUSIBLE_MS = 4_102_444_800_000  # 2100
_LARGEST = 10**20


def read_event_time(value: object) -> object:
    """Return an event time in another spelling as an integer: `1.7e12`, `"1700000000000"`.

    Raises
    ------
    BadRecordError
        If it is not a time in Unix milliseconds; the detail says what it looks like.
    """
    if isinstance(value, str):
        if _DIGITS.fullmatch(value):
            value = int(value)
        elif _ISO_DATE.match(value):
            raise BadRecordError("bad-time", f"event_time_ms {value[:40]!r} looks like ISO 8601: {_wanted(value)}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and not MIN_EVENT_TIME_MS <= value <= MAX_EVENT_TIME_MS
    ):
        raise BadRecordError("bad-time", f"event_time_ms {_number(value)} {_what_it_is(value)}")
    return value


def moment(at_ms: float) -> str:
    """Format a time with its date, for messages.

    Examples
    --------
    >>> moment(1_700_000_000_000)
    '1700000000000 (2023-11-14T22:13:20Z)'
    """
    try:
        date = datetime.fromtimestamp(at_ms / 1_000, UTC)
    except (OverflowError, ValueError, OSError):
        return _number(at_ms)
    return f"{_number(at_ms)} ({date:%Y-%m-%dT%H:%M:%SZ})"


def unit_of(value: float) -> str:
    """Return the unit in which a number would be a time between 1990 and 2100, or an empty string.

    Examples
    --------
    >>> unit_of(1_700_000_000), unit_of(1_700_000_000_000_000), unit_of(5)
    ('seconds', 'microseconds', '')
    """
    if abs(value) > _LARGEST:
        return ""
    for unit, to_ms in _UNITS:
        if MIN_EVENT_TIME_MS <= value * to_ms <= _NEWEST_PLAUSIBLE_MS:
            return unit
    return ""


def _what_it_is(value: float) -> str:
    unit = unit_of(value)
    if not unit:
        return "is not between 1990 and 9999 in Unix milliseconds"
    return f"looks like {unit}: in Unix milliseconds it is {int(value * dict(_UNITS)[unit])}"


def _wanted(text: str) -> str:
    try:
        meant = datetime.fromisoformat(text)
    except ValueError:
        return "expected Unix milliseconds"
    if meant.tzinfo is None:
        return "expected Unix milliseconds, and this has no time zone"
    return f"in Unix milliseconds it is {int(meant.timestamp() * 1_000)}"


def _number(value: float) -> str:
    return str(value)[:40] if isinstance(value, float) or abs(value) < 10**40 else "with more than 40 digits"
