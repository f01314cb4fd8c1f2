"""Validation of environment variables and time zones."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from streamrec.errors import SettingsError

ENV_PREFIX = "STREAMREC_"

KINDS_OF_KEYS = frozenset({"interest", "lists", "position", "rec", "topic"})
"""What keys in Redis begin with where the installation has no name."""

_OTHER_VARIABLES = frozenset({"STREAMREC_DATA"})
"""Not a setting: the data folder of the project's tests."""

# variables that Kubernetes adds to all containers in a namespace with a service named `streamrec-...`
_OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$|_PORT$")


def variable_name(field: str) -> str:
    """Return the environment variable that sets a field.

    Examples
    --------
    >>> variable_name("redis_url")
    'STREAMREC_REDIS_URL'
    """
    return f"{ENV_PREFIX}{field.upper()}"


def check_names(environment: Mapping[str, str], settings: Collection[str]) -> None:
    """Reject unknown variables with our prefix, and values that are not UTF-8.

    A misspelt setting would silently have its default; invalid UTF-8 would cause an obscure error later.

    Empty variables count as not set, and those that Kubernetes adds for services are ignored.

    Parameters
    ----------
    environment
        Values by name.
    settings
        Names of the variables that are settings.

    Raises
    ------
    SettingsError
        If there are any; the message suggests the closest setting for each, and contains no value.

    Examples
    --------
    >>> check_names({"STREAMREC_TOPK": "5"}, ["STREAMREC_TOP_K", "STREAMREC_KAFKA"])
    Traceback (most recent call last):
        ...
    streamrec.errors.SettingsError: STREAMREC_TOPK: no such setting; the nearest one is STREAMREC_TOP_K
    """
    known = {*settings, *_OTHER_VARIABLES}
    unknown = sorted(
        name
        for name, value in environment.items()
        if name.upper().startswith(ENV_PREFIX)
        and name.upper() not in known
        and value
        and not _is_of_a_service(name, value)
    )
    garbled = sorted(name for name in environment if name.upper() in known and not _is_text(environment[name]))
    if garbled:
        raise SettingsError("; ".join(f"{name}: the value is not UTF-8" for name in garbled))
    nearest = {name: get_close_matches(name.upper(), sorted(settings), n=1, cutoff=0) for name in unknown}
    if unknown:
        raise SettingsError(
            "; ".join(f"{name}: no such setting; the nearest one is {''.join(nearest[name])}" for name in unknown)
        )


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_of_a_service(name: str, value: str) -> bool:
    found = _OF_KUBERNETES.search(name)
    return found is not None and (not name.endswith("_PORT") or "://" in value or "_SERVICE_PORT" in name)


def check_installation(name: str) -> None:
    """Refuse a name that would give keys in Redis the names of keys of an installation without one.

    Raises
    ------
    ValueError
        If it is such a name.
    """
    if name in KINDS_OF_KEYS:
        raise ValueError(f"{name} is the beginning of streamrec's own keys in Redis: choose another name")


def find_zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name; UTC does not need the time zone database.

    Raises
    ------
    ValueError
        If it does not exist; the message suggests the closest name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        nearest = get_close_matches(name, sorted(available_timezones()), n=1, cutoff=0)
        raise ValueError(f"no time zone; the nearest name is {nearest[0] if nearest else 'UTC'}") from None
