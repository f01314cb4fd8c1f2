"""Configuration shared by all Redis clients."""

from __future__ import annotations

from hashlib import sha1
from typing import Any

import redis

from streamrec.adapters.redis.errors import translated_errors
from streamrec.environment import variable_name
from streamrec.errors import SettingsError

__all__ = ["connect", "digest_of", "next_keys", "translated_errors", "values"]

_TIMEOUT_S = 5.0
"""A healthy call takes a millisecond; after this timeout the server counts as unavailable and the caller retries."""


def connect(url: str) -> redis.Redis:
    """Return a client; it connects on its first call.

    Raises
    ------
    SettingsError
        If the URL is not a valid Redis address.
    """
    try:
        return redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    except ValueError:
        # the address and the error may contain a password
        raise SettingsError(
            f"{variable_name('redis_url')}: not an address of Redis (example: redis://localhost:6379/0); "
            "in a password, / ? # @ and % are written as %2F %3F %23 %40 and %25"
        ) from None


def values(client: redis.Redis, keys: list[str] | list[bytes]) -> list[bytes | None]:
    """Return the values of keys in order, in one round trip."""
    reply: Any = client.mget(keys) if keys else []
    return list(reply)


def next_keys(client: redis.Redis, pattern: str, cursor: int, *, count: int) -> tuple[int, list[bytes]]:
    """Return the next keys of a walk over all that match a pattern, and where it continues: 0 at the end.

    Parameters
    ----------
    count
        Number of keys to examine, matching or not.
    """
    reply: Any = client.scan(cursor, match=pattern, count=count)
    following, keys = reply
    return int(following), keys


def digest_of(value: bytes) -> str:
    """Return what a script calls the SHA-1 of a value, which is shorter than a list."""
    return sha1(value, usedforsecurity=False).hexdigest()
