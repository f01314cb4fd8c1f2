"""Leases in Redis."""

from __future__ import annotations

from uuid import uuid4

import redis

_CLAIM = """
-- KEYS: the claim; ARGV: who asks, for how many seconds
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class Claim:
    """A lease: a key that its holder keeps for some seconds, and may renew.

    Parameters
    ----------
    client
        Client of the server.
    key
        Name of the key.
    """

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._script = client.register_script(_CLAIM)
        self.key = key
        self.name = uuid4().hex
        """What the key holds while it is held here."""

    def take(self, seconds: int) -> bool:
        """Acquire or renew the lease for this many seconds; return `False` if another worker holds it."""
        return bool(self._script(keys=[self.key], args=[self.name, seconds]))
