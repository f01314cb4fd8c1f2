"""All lists in Redis, to take withdrawn items out of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha1
from typing import Any

import msgspec

from streamrec.adapters.redis.claim import Claim
from streamrec.adapters.redis.client import connect, translated_errors
from streamrec.adapters.redis.keys import Keys

SCANNED_TOGETHER = 100
"""So many keys, of which about half are lists, are looked at in one go when withdrawn items leave stored lists."""

_FIND = """
-- KEYS: lists; ARGV: item ids as JSON writes them; returns the lists that hold any of them
-- an item begins with its id, a reason does not
local wanted, found = {}, {}
for _, id in ipairs(ARGV) do wanted[id] = true end
local function holds_any(topk)
  if #ARGV <= 32 then -- a search takes 2 us, and taking a list apart 60
    for _, id in ipairs(ARGV) do
      if string.find(topk, '{"item_id":"' .. id .. '","score":', 1, true) then return true end
    end
    return false
  end
  for id in string.gmatch(topk, '{"item_id":"(.-)","score":') do
    if wanted[id] then return true end
  end
  return false
end
for _, key in ipairs(KEYS) do
  local topk = redis.pcall('GET', key) -- a table where the key is not a list
  if type(topk) == 'string' and holds_any(topk) then found[#found + 1] = topk end
end
return found
"""

_SWAP = """
-- KEYS: a list; ARGV: SHA-1 of the list as it was read, the new list
local topk = redis.call('GET', KEYS[1])
if not topk or redis.sha1hex(topk) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""

_encoder = msgspec.json.Encoder()


class RedisStoredLists:
    """Looks through all lists; which items to look for, the store of lists tells when it marks them.

    Parameters
    ----------
    url
        Address of Redis.
    installation
        Name of the installation, which prefixes all keys.
    """

    def __init__(self, url: str, *, installation: str = "") -> None:
        self._redis = connect(url)
        self._keys = Keys(installation)
        self._find = self._redis.register_script(_FIND)
        self._claim = Claim(self._redis, self._keys.cleaner)

    def withdrawn_waiting(self, limit: int) -> list[str]:
        """Return items that were withdrawn and may still be in stored lists, at most so many."""
        with translated_errors(self._redis):
            waiting: Any = self._redis.srandmember(self._keys.withdrawn_waiting, limit)
        return [item_id.decode() for item_id in waiting]

    def withdrawn_cleaned(self, item_ids: Collection[str]) -> None:
        """Take note that no stored list holds these items."""
        with translated_errors(self._redis):
            self._redis.srem(self._keys.withdrawn_waiting, *item_ids)

    def claim_cleaning(self, seconds: int) -> bool:
        """Be the one who cleans, for so long from now; answer `False` if somebody else is."""
        with translated_errors(self._redis):
            return self._claim.take(seconds)

    def lists_with(self, item_ids: Collection[str], cursor: int) -> tuple[int, list[bytes]]:
        """Look into the next few lists, from a cursor on, and return the next cursor and those with any of the items.

        The cost is that of `SCAN` over all keys and of a read of each list; see `docs/performance.md`.
        """
        with translated_errors(self._redis):
            scanned: Any = self._redis.scan(cursor, match=self._keys.any_topk, count=SCANNED_TOGETHER)
            following, keys = scanned
            found: Any = self._find(keys=keys, args=[_encoder.encode(each)[1:-1] for each in item_ids]) if keys else []
        return following, found

    def swap_lists(self, lists: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
        """Replace lists (user id, list, new list) that are still stored as given; answer which ones were."""
        if not lists:
            return []
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            for user_id, before, after in lists:
                digest = sha1(before, usedforsecurity=False).hexdigest()
                # a registered script would first be looked for, in a round trip of its own
                pipeline.eval(_SWAP, 1, self._keys.topk(user_id), digest, after)
            return [bool(replaced) for replaced in pipeline.execute()]
