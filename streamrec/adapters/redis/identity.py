"""The identity of a Redis."""

from __future__ import annotations

from typing import Any

from streamrec.adapters.redis.client import connect, translated_errors
from streamrec.adapters.redis.keys import Keys


class RedisIdentity:
    """Holds the identity of the part of a Redis that belongs to an installation.

    Parameters
    ----------
    url
        Address of Redis.
    installation
        Name of the installation.
    """

    name = "Redis"

    def __init__(self, url: str, *, installation: str = "") -> None:
        self._redis = connect(url)
        self._key = Keys(installation).identity

    def identity(self) -> str:
        """Return the identity, empty if there is none."""
        with translated_errors(self._redis):
            held: Any = self._redis.get(self._key)
        return (held or b"").decode(errors="replace")

    def claim(self, identity: str) -> str:
        """Set the identity if there is none, and return the one that is there now."""
        with translated_errors(self._redis):
            # not both in one command: before Redis 7 that is none
            if self._redis.set(self._key, identity, nx=True):
                return identity
        return self.identity() or identity
