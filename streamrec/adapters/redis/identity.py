"""Identity of a Redis server."""

from __future__ import annotations

from typing import Any

from streamrec.adapters.redis.client import connect, translated_errors
from streamrec.adapters.redis.keys import Keys


class RedisIdentity:
    """Stores the identity of an installation in Redis.

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
        """Set the identity if there is none, and return the current one."""
        with translated_errors(self._redis):
            # not as SET NX GET, which requires Redis 7
            if self._redis.set(self._key, identity, nx=True):
                return identity
        return self.identity() or identity
