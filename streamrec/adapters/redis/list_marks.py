"""Marks of lists in Redis: sorted sets of user ids by how their lists were made.

A user is in one of three sets, for lists that are complete, behind or poor, and in a fourth while the list is short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import redis

from streamrec.adapters.redis.claim import Claim
from streamrec.adapters.redis.client import connect, digest_of, translated_errors
from streamrec.adapters.redis.keys import Keys
from streamrec.service.list_marks import Census, Facts, Made, Mark
from streamrec.service.list_ports import EncodedList, ListOrigin

MAX_MARKED = 1_000_000
"""Maximum number of users per set, about 100 bytes each; beyond it those with the lowest scores, i.e. the oldest lists,
are dropped."""

CLAIM_S = 5

MOVED_TOGETHER = 5_000
"""Marks moved per call, during which Redis does nothing else."""

_MARK = """
-- KEYS: a list, the set of short lists, the set that it belongs to, the other sets; ARGV: SHA-1 of the list, its user,
-- its score, and that among the short ones, empty if it is none
local topk = redis.pcall('GET', KEYS[1]) -- a table where the key is not a list
if type(topk) ~= 'string' or redis.sha1hex(topk) ~= ARGV[1] then return 0 end
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
for i = 4, #KEYS do redis.call('ZREM', KEYS[i], ARGV[2]) end
if ARGV[4] == '' then
  redis.call('ZREM', KEYS[2], ARGV[2])
else
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[2])
end
return 1
"""

_DROP = """
-- KEYS: a list, all sets; ARGV: version of its state, empty if there is no list, and its user
local head = redis.pcall('GETRANGE', KEYS[1], 0, 40)
local version = type(head) == 'string' and string.match(head, '^{"state_version":(%d+)') or ''
if version ~= ARGV[1] then return 0 end
for i = 2, #KEYS do redis.call('ZREM', KEYS[i], ARGV[2]) end
return 1
"""

_MOVE = """
-- KEYS: two sets; ARGV: a score, a number; moves up to that many members with a higher score from one to the other
local found = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '(' .. ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #found, 2 do
  redis.call('ZADD', KEYS[2], found[i + 1], found[i])
  redis.call('ZREM', KEYS[1], found[i])
end
return #found / 2
"""

_decoder = msgspec.json.Decoder(Facts)


class RedisListMarks:
    """Stores how lists were made; see :class:`streamrec.service.list_ports.ListMarks`.

    Parameters
    ----------
    url
        Address of Redis.
    installation
        Name of the installation, which prefixes all keys.
    """

    def __init__(self, url: str, *, installation: str = "") -> None:
        keys = Keys(installation)
        self._topk = keys.topk
        self.keys = {made: keys.lists(made) for made in Made}
        """The set of lists with this mark."""
        self._short_key, self._facts_key = map(keys.lists, ("short", "facts"))
        self._redis = connect(url)
        self._claim = Claim(self._redis, keys.lists("claim"))
        self._move = self._redis.register_script(_MOVE)
        self._may_hold = {*self.keys.values(), self._short_key}
        """Sets that may not be empty."""

    def add_to(self, pipeline: redis.client.Pipeline, marks: Sequence[Mark]) -> None:
        """Replace the marks of lists in a pipeline, skipping empty sets."""
        users = [mark.user_id for mark in marks]
        if not users:
            return
        for made, key in self.keys.items():
            scores = {mark.user_id: mark.score for mark in marks if mark.made is made}
            if scores:
                pipeline.zadd(key, scores)
                self._may_hold.add(key)
            others = users if not scores else [user_id for user_id in users if user_id not in scores]
            if others and key in self._may_hold:
                pipeline.zrem(key, *others)
        short = {mark.user_id: mark.short_at for mark in marks if mark.short_at is not None}
        if short:
            pipeline.zadd(self._short_key, short)
            self._may_hold.add(self._short_key)
        if len(short) < len(users) and self._short_key in self._may_hold:
            pipeline.zrem(self._short_key, *(user_id for user_id in users if user_id not in short))

    def mark(self, marks: Sequence[Mark], lists: Sequence[EncodedList]) -> None:
        """Replace the marks of these lists, in order, if they are still stored as given."""
        if not marks:
            return
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            for mark, topk in zip(marks, lists, strict=True):
                own, short_at = self.keys[mark.made], "" if mark.short_at is None else mark.short_at
                others = [key for key in self.keys.values() if key != own]
                keys = self._topk(mark.user_id), self._short_key, own, *others
                # a registered script would first be looked up, in an extra round trip
                pipeline.eval(_MARK, len(keys), *keys, digest_of(topk.value), mark.user_id, mark.score, short_at)
            pipeline.execute()
        self._may_hold |= {self._short_key, *(self.keys[mark.made] for mark in marks)}

    def shorten(self, user_ids: Sequence[str]) -> None:
        """Mark lists that have lost items as short, in addition to other marks."""
        if not user_ids:
            return
        with translated_errors(self._redis):
            self._redis.zadd(self._short_key, dict.fromkeys(user_ids, 0))
        self._may_hold.add(self._short_key)

    def drop(self, origins: Mapping[str, ListOrigin | None]) -> None:
        """Remove the marks of users whose list has still the same state version, or is still missing."""
        if not origins:
            return
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            for user_id, origin in origins.items():
                keys = self._topk(user_id), *self.keys.values(), self._short_key
                pipeline.eval(_DROP, len(keys), *keys, origin.state_version if origin else "", user_id)
            pipeline.execute()

    def undo(self, *, above: int) -> None:
        """Mark lists as poor if their versions had learned more events than this: they were rolled back.

        The times of their newest events are unknown: they are rebuilt after all other poor lists.
        """
        poor = self.keys[Made.POOR]
        for made in (Made.BEHIND, Made.COMPLETE):
            with translated_errors(self._redis):
                while self._move(keys=[self.keys[made], poor], args=[above, MOVED_TOGETHER]) == MOVED_TOGETHER:
                    pass
        self._may_hold.add(poor)

    def trim(self) -> None:
        """Drop the oldest marks beyond the bound."""
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            for key in (*self.keys.values(), self._short_key):
                pipeline.zremrangebyrank(key, 0, -MAX_MARKED - 1)
            pipeline.execute()

    def count(self, facts: Facts) -> Census:
        """Count the marks."""
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            sizes = (*self.keys.values(), self._short_key)
            for key in sizes:
                pipeline.zcard(key)
            pipeline.zcount(self.keys[Made.BEHIND], "-inf", f"({facts.behind_below}")
            pipeline.zcount(self.keys[Made.COMPLETE], "-inf", f"({facts.complete_below}")
            pipeline.zcount(self._short_key, "-inf", f"({facts.items}")
            found: Any = pipeline.execute()
        card = dict(zip(sizes, found, strict=False))
        self._may_hold = {key for key in sizes if card[key]}
        return Census(
            poor=card[self.keys[Made.POOR]],
            far=found[-3] + found[-2],
            short=found[-1],
            behind=card[self.keys[Made.BEHIND]],
            complete=card[self.keys[Made.COMPLETE]],
            all_short=card[self._short_key],
        )

    def newest(self, made: Made, count: int, *, below: float = float("inf")) -> list[str]:
        """Return up to this many users whose lists have this mark and a score below a limit, highest score first."""
        return self._users(self.keys[made], count, below)

    def short(self, count: int, *, below: int) -> list[str]:
        """Return up to this many users of short lists that were made when fewer items could be listed."""
        return self._users(self._short_key, count, below)

    def facts(self) -> Facts:
        """Return the latest facts."""
        with translated_errors(self._redis):
            value: Any = self._redis.get(self._facts_key)
        return Facts() if value is None else _decoder.decode(value)

    def keep(self, facts: Facts) -> None:
        """Keep facts."""
        with translated_errors(self._redis):
            self._redis.set(self._facts_key, msgspec.json.encode(facts))

    def claim(self) -> bool:
        """Try to become the only worker that rebuilds lists, for some seconds."""
        with translated_errors(self._redis):
            return self._claim.take(CLAIM_S)

    def _users(self, key: str, count: int, below: float) -> list[str]:
        limit = "+inf" if below == float("inf") else f"({below}"
        with translated_errors(self._redis):
            found: Any = self._redis.zrevrangebyscore(key, limit, "-inf", start=0, num=count)
        return [user_id.decode() for user_id in found]
