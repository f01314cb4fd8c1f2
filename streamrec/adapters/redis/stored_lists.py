"""Removal of withdrawn items from all lists in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamrec.adapters.redis.claim import Claim
from streamrec.adapters.redis.client import connect, digest_of, next_keys, translated_errors, values
from streamrec.adapters.redis.keys import Keys

SCANNED_TOGETHER = 100
"""Keys per scan step, about half of which are lists."""

FEW = 32
"""Items that are searched for one by one: a search takes 2 us, and taking a list apart 60."""

_FIND = """
-- KEYS: a set of item ids, then lists; ARGV: how many ids are few; returns each list that holds any of them, with those
-- their ids are before their scores; in a list of an earlier release an item begins with its id, a reason does not
local few = tonumber(redis.call('SCARD', KEYS[1])) <= tonumber(ARGV[1]) and redis.call('SMEMBERS', KEYS[1])
for _, id in ipairs(few or {}) do
  if string.find(id, '["\\\\%c]') then few = nil break end -- a list has it in another form
end
local function in_set(topk)
  local held, ids = {}, {}
  local _, begin = string.find(topk, '"items":{"ids":[', 1, true)
  local listed = begin and string.sub(topk, begin, (string.find(topk, '],"scores":"', begin, true)))
  if few then
    for _, id in ipairs(few) do
      local is_in
      if listed then is_in = string.find(listed, '"' .. id .. '"', 1, true)
      else is_in = string.find(topk, '{"item_id":"' .. id .. '","score":', 1, true) end
      if is_in then held[#held + 1] = id end
    end
    return held
  end
  if listed then
    local is_whole, decoded = pcall(cjson.decode, listed)
    ids = is_whole and decoded or ids
  end
  for id in string.gmatch(listed and '' or topk, '{"item_id":"(.-)","score":') do
    if string.find(id, '\\\\', 1, true) then
      local is_whole, decoded = pcall(cjson.decode, '["' .. id .. '"]')
      id = is_whole and decoded[1] or id
    end
    ids[#ids + 1] = id
  end
  local found = #ids > 0 and redis.call('SMISMEMBER', KEYS[1], unpack(ids)) or {}
  for i, is_in in ipairs(found) do
    if is_in == 1 then held[#held + 1] = ids[i] end
  end
  return held
end
local lists = {}
for i = 2, #KEYS do
  local topk = redis.pcall('GET', KEYS[i]) -- a table where the key is not a list
  local held = type(topk) == 'string' and in_set(topk) or {}
  if #held > 0 then lists[#lists + 1] = {topk, held} end
end
return lists
"""

_BEGIN = """
-- KEYS: the items that wait, those that are being taken out of lists; returns how many the latter are from now on
if redis.call('SCARD', KEYS[2]) == 0 and redis.call('SCARD', KEYS[1]) > 0 then
  redis.call('RENAME', KEYS[1], KEYS[2])
end
return redis.call('SCARD', KEYS[2])
"""

_END = """
-- KEYS: the items that were taken out of lists, the claim; ARGV: who asks
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

_SWAP = """
-- KEYS: a list; ARGV: SHA-1 of the list as it was read, the new list
local topk = redis.call('GET', KEYS[1])
if not topk or redis.sha1hex(topk) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""


class RedisStoredLists:
    """Scans all lists for the items that the list store has marked.

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
        self._find, self._begin, self._end = map(self._redis.register_script, (_FIND, _BEGIN, _END))
        self._claim = Claim(self._redis, self._keys.cleaner)

    def is_withdrawn_waiting(self) -> bool:
        """Return whether any item was withdrawn and may still be in stored lists."""
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.scard(self._keys.withdrawn_waiting)
            pipeline.scard(self._keys.withdrawn_leaving)
            return any(pipeline.execute())

    def claim_cleaning(self, seconds: int) -> bool:
        """Acquire the cleaning lease for this long; return `False` if another worker holds it."""
        with translated_errors(self._redis):
            return self._claim.take(seconds)

    def begin_cleaning(self) -> int:
        """Choose what to take out of all lists: what was chosen and not finished, else all that waits now."""
        with translated_errors(self._redis):
            return int(str(self._begin(keys=[self._keys.withdrawn_waiting, self._keys.withdrawn_leaving])))

    def end_cleaning(self) -> None:
        """Record that no stored list contains the chosen items, unless another worker holds the lease now."""
        with translated_errors(self._redis):
            self._end(keys=[self._keys.withdrawn_leaving, self._claim.key], args=[self._claim.name])

    def lists_to_clean(self, cursor: int) -> tuple[int, list[tuple[bytes, list[str]]]]:
        """Look into the next few lists, from a cursor on, and return the next cursor and those that are to change.

        The cost is a `SCAN` over all keys and a read of each list; see `docs/performance.md`. Which items to
        look for, Redis knows: they are not sent.
        """
        with translated_errors(self._redis):
            following, keys = next_keys(self._redis, self._keys.any_topk, cursor, count=SCANNED_TOGETHER)
            found: Any = self._find(keys=[self._keys.withdrawn_leaving, *keys], args=[FEW]) if keys else []
        return following, [(topk, [item_id.decode() for item_id in held]) for topk, held in found]

    def are_stored(self, lists: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Answer which lists (user id, list) are stored as given."""
        with translated_errors(self._redis):
            stored = values(self._redis, [self._keys.topk(user_id) for user_id, _ in lists])
        return [value == topk for value, (_, topk) in zip(stored, lists, strict=True)]

    def swap_lists(self, lists: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
        """Replace lists (user id, list, new list) that are still stored as given; return which ones were replaced."""
        if not lists:
            return []
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            for user_id, before, after in lists:
                # a registered script would first be looked up, in an extra round trip
                pipeline.eval(_SWAP, 1, self._keys.topk(user_id), digest_of(before), after)
            return [bool(replaced) for replaced in pipeline.execute()]
