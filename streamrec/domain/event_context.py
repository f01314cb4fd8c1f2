"""Context of events, such as device, referrer and country, as codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

MAX_CONTEXT_KEYS = 6
"""Maximum number of keys that are used."""

CONTEXT_CODES = 65_535
"""Largest code; the smallest is 1. Two values have the same code by chance, rarely."""

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000


def read_context_keys(text: str) -> tuple[str, ...]:
    """Return the keys in a text, separated by commas.

    Raises
    ------
    ValueError
        If there are too many, or one twice.

    Examples
    --------
    >>> read_context_keys("device, country")
    ('device', 'country')
    """
    keys = tuple(key for part in text.split(",") if (key := part.strip()))
    if len(keys) > MAX_CONTEXT_KEYS or len(set(keys)) < len(keys):
        raise ValueError(f"name at most {MAX_CONTEXT_KEYS} keys of the context, each once")
    return keys


def context_codes(context: Mapping[str, object], event_time_ms: int, keys: Sequence[str]) -> tuple[int, ...]:
    """Return a code for each of these keys that an event has, with its value.

    An event without `hour` or `weekday` (0 for Monday) has those of its time, in UTC.

    Examples
    --------
    >>> keys = read_context_keys("device,country,hour")
    >>> codes = context_codes({"device": "phone", "page": 3}, 0, keys)
    >>> len(codes), codes == context_codes({"device": "phone", "hour": 0}, 0, keys)
    (2, True)
    """
    of_time = {"hour": event_time_ms // _HOUR_MS % 24, "weekday": (event_time_ms // _DAY_MS + 3) % 7}
    found = {**of_time, **context}
    return tuple(
        1 + crc32(f"{key}={value}".encode()) % CONTEXT_CODES for key in keys if (value := found.get(key)) is not None
    )
