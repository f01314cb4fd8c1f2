"""Conversion of values in a file to values of a message.

Invalid values are returned unchanged: the contract's decoder refuses them with a reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime
from statistics import median

import numpy as np

TIME_UNITS = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
"""Milliseconds per unit, as a fraction."""

_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_LARGEST = {"s": 1e11, "ms": 1e14, "us": 1e17}
"""A larger number in this unit would be the year 5138 or later: it is in a smaller unit."""

MAX_EXACT_FLOAT = 2**53
"""Larger floats have lost digits, so that two ids may have become equal."""

_MS_PER_S = 1_000
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d{1,2}")
_DATE_FORMATS = ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def unit_name(unit: str) -> str:
    """Return the name of a time unit.

    Examples
    --------
    >>> unit_name("us")
    'microseconds'
    """
    return _UNIT_NAMES[unit]


def is_missing(value: object) -> bool:
    """Return whether a cell is empty: null, an empty text, or NaN."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def as_id(value: object, *, from_text: bool) -> object:
    """Return an id as text; whole floats, as written by pandas, become integers.

    Parameters
    ----------
    from_text
        Whether the file is untyped, so that `101.0` in it may be a number.

    Examples
    --------
    >>> as_id(101.0, from_text=False), as_id("101.0", from_text=True), as_id("101.0", from_text=False)
    ('101', '101', '101.0')
    """
    if isinstance(value, str):
        whole = _WHOLE_FLOAT.fullmatch(value) if from_text else None
        return whole[1] if whole else value
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT_FLOAT:
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def as_text(value: object) -> object:
    """Convert a scalar to text."""
    return as_id(value, from_text=False) if isinstance(value, (int, float)) else value


def as_number(value: object) -> object:
    """Convert to a number, also from text with a decimal comma or point.

    Examples
    --------
    >>> as_number("12,50"), as_number("2.0"), as_number(".75"), as_number("€12.50")
    (12.5, 2, 0.75, '€12.50')
    """
    number = value
    if isinstance(value, str):
        text = value.replace(",", ".") if _DECIMAL_COMMA.fullmatch(value) else value
        with suppress(ValueError):
            number = float(text)
    if isinstance(number, float) and math.isfinite(number):
        return int(number) if number.is_integer() and abs(number) <= MAX_EXACT_FLOAT else number
    return value if isinstance(number, float) else number


def as_boolean(value: object) -> object:
    """Convert to a boolean, also from text or 0 and 1.

    Examples
    --------
    >>> as_boolean("False"), as_boolean(1), as_boolean("perhaps")
    (False, True, 'perhaps')
    """
    if isinstance(value, bool):
        return value
    return _BOOLEANS.get(str(as_text(value)).strip().lower(), value)


def as_time_ms(value: object, unit: str) -> object:
    """Convert a time to Unix milliseconds.

    Parameters
    ----------
    value
        A number in a unit, also as text, or a date in the format of ISO 8601, pandas or MIND; without a time zone it is
        UTC.
    unit
        One of `TIME_UNITS`.

    Examples
    --------
    >>> as_time_ms("1764410400", "s"), as_time_ms("1.7644104e+12", "ms"), as_time_ms("2025-11-29T10:00:00Z", "ms")
    (1764410400000, 1764410400000, 1764410400000)
    >>> as_time_ms("11/15/2019 10:22:32 AM", "ms"), as_time_ms("noon", "ms")
    (1573813352000, 'noon')
    """
    if isinstance(value, str):
        number = _number(value)
        if number is None:
            instant = _instant(value)
            return value if instant is None else _milliseconds(instant)
        value = number
    if isinstance(value, datetime):
        return _milliseconds(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return value
    times, over = TIME_UNITS[unit]
    return int(value * times) // over


def guess_unit(values: Iterable[object]) -> str:
    """Guess the unit of numeric times: the one in which most of them are plausible dates.

    Examples
    --------
    >>> guess_unit(["1764410400", "1764410401"]), guess_unit([1764410400000]), guess_unit(["2025-11-29"])
    ('s', 'ms', 'ms')
    """
    numbers = [
        number
        for value in values
        if (number := _number(value) if isinstance(value, str) else value) is not None
        and isinstance(number, (int, float))
        and math.isfinite(number)
    ]
    if not numbers:
        return "ms"
    middle = abs(median(numbers))
    return next((unit for unit, largest in _LARGEST.items() if middle < largest), "ns")


def milliseconds(times: np.ndarray, unit: str) -> np.ndarray:
    """Convert many times to Unix milliseconds.

    Shape
    -----
    times : (E,) int64
    returns : (E,) int64

    Examples
    --------
    >>> milliseconds(np.array([1_764_410_400]), "s").tolist()
    [1764410400000]
    """
    per_unit, over = TIME_UNITS[unit]
    scaled: np.ndarray = times * per_unit // over
    return scaled


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None


def _instant(text: str) -> datetime | None:
    text = text.strip().removesuffix(" UTC")
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    for pattern in _DATE_FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, pattern).replace(tzinfo=UTC)
    return None


def _milliseconds(instant: date) -> int:
    if not isinstance(instant, datetime):
        instant = datetime(instant.year, instant.month, instant.day, tzinfo=UTC)
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return round(aware.timestamp() * _MS_PER_S)
