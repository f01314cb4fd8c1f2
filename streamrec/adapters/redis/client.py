"""What every client of Redis shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from streamrec.errors import SettingsError, StreamrecError, TransientError
from streamrec.settings import variable_name

_TIMEOUT_S = 5.0
"""A healthy call takes a millisecond; past this the server is away and the caller's retry takes over."""

_TRANSIENT = (
    redis.ConnectionError,  # includes a server that is still loading its data
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
)

_FULL_DISK = "MISCONF"
"""The reply to everything while Redis cannot write its file; redis-py has no class for it."""


def connect(url: str) -> redis.Redis:
    """Return a client; nothing is sent before its first call.

    Raises
    ------
    SettingsError
        If this is no address of Redis.
    """
    try:
        return redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    except ValueError:
        # the address itself may hold a password, and so may what is wrong with it
        raise SettingsError(
            f"{variable_name('redis_url')}: not an address of Redis (example: redis://localhost:6379/0); "
            "in a password, / ? # @ and % are written as %2F %3F %23 %40 and %25"
        ) from None


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what a later try may mend into a `TransientError`, and other errors into ours."""
    try:
        yield
    except _TRANSIENT as error:
        raise TransientError(f"Redis: {error}") from error
    except redis.RedisError as error:
        kind = TransientError if _FULL_DISK in str(error) else StreamrecError
        raise kind(f"Redis: {error}") from error


def values(client: redis.Redis, keys: list[str]) -> list[bytes | None]:
    """Return the values of keys in their order, in one round trip."""
    reply: Any = client.mget(keys) if keys else []
    return list(reply)
