"""Top-K lists in Redis: one key per user, always complete, the newest wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any
from uuid import uuid4

import msgspec

from streamrec.adapters.redis.client import connect, translated_errors, values
from streamrec.adapters.redis.keys import Keys
from streamrec.adapters.redis.list_marks import RedisListMarks
from streamrec.adapters.redis.server import require_fit
from streamrec.adapters.redis.stored_lists import RedisStoredLists
from streamrec.adapters.redis.topic_ids import RedisTopicIds
from streamrec.contracts.decode import decode_list
from streamrec.contracts.derived import TopKList
from streamrec.service.batch import Positions, Slice, TopicPartition
from streamrec.service.list_aging import brought_up_to_date
from streamrec.service.list_marks import Mark
from streamrec.service.list_ports import EncodedList, ListOrigin
from streamrec.service.withdrawn import Withdrawn, WithdrawnChange

WORKER = "recall"
MARKED_TOGETHER = 10_000
"""Marks changed per call, during which Redis does nothing else."""
DAY_S = 86_400

_PUT = """
-- KEYS: positions, then lists; ARGV: number of positions;
-- then for each position the expected offset, for each list its state version, its value and its seconds to live
local count = tonumber(ARGV[1])
for i = 1, count do
  if (redis.call('GET', KEYS[i]) or '0') ~= ARGV[i + 1] then return 0 end
end
for i = count + 1, #KEYS do
  -- a list begins with its state version; any other value is replaced, whatever its type
  local head = redis.pcall('GETRANGE', KEYS[i], 0, 40)
  local stored = type(head) == 'string' and string.match(head, '^{"state_version":(%d+)')
  local version = 3 * i - 2 * count - 1
  if not stored or tonumber(stored) <= tonumber(ARGV[version]) then
    redis.call('SET', KEYS[i], ARGV[version + 1], 'EX', ARGV[version + 2])
  end
end
return 1
"""

_ADVANCE = """
-- KEYS: positions; ARGV: for each one the expected and the new offset
for i, key in ipairs(KEYS) do
  if (redis.call('GET', key) or '0') ~= ARGV[2 * i - 1] then return 0 end
end
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[2 * i]) end
return 1
"""

_REPLACE = """
-- KEYS: a list; ARGV: its state version and its value
local stored = string.match(redis.call('GETRANGE', KEYS[1], 0, 40), '^{"state_version":(%d+)')
if not stored or tonumber(stored) > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""


_DIGEST = """
-- KEYS: the digest of all withdrawn items; ARGV: that before a change and after it
-- if it differs, other workers know other items, and the marks are unknown
local stored = redis.call('GET', KEYS[1])
if stored == ARGV[1] or stored == ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], '')
end
"""

_encoder = msgspec.json.Encoder()
_origin_decoder = msgspec.json.Decoder(ListOrigin)


class RedisTopKStore:
    """Stores the latest list of each user, and the positions of `user-interests` in them.

    Parameters
    ----------
    url
        Address of Redis.
    list_ttl_days
        A list expires after this many days without an event of its user.
    hiding_ttl_days
        The same for lists that hide items: the default list, which readers fall back to, hides nothing. By default as
        for others.
    installation
        Name of the installation, which prefixes all keys.
    """

    def __init__(
        self, url: str, *, list_ttl_days: int, hiding_ttl_days: int | None = None, installation: str = ""
    ) -> None:
        self._redis = connect(url)
        self._keys = Keys(installation)
        self.topics = RedisTopicIds(self._redis, self._keys, WORKER)
        """Ids of the topics that the positions refer to."""
        self._put = self._redis.register_script(_PUT)
        self._digest = self._redis.register_script(_DIGEST)
        self.marks = RedisListMarks(url, installation=installation)
        self.stored = RedisStoredLists(url, installation=installation)
        self._ttl_s = list_ttl_days * DAY_S
        self._hiding_ttl_s = (hiding_ttl_days or list_ttl_days) * DAY_S

    def check(self) -> list[str]:
        """Return warnings about the server, or raise like :func:`require_fit`."""
        return require_fit(self._redis)

    def put_lists(self, lists: Sequence[EncodedList], slices: Sequence[Slice]) -> bool:
        """Replace lists atomically.

        A list made from an older state than the stored one is ignored.

        Returns
        -------
        bool
            `False` if nothing was written because a slice does not start at the stored position.
        """
        keys = self._position_keys(slices) + [self._keys.topk(topk.user_id) for topk in lists]
        arguments: list[Any] = [len(slices), *(part.start for part in slices)]
        for topk in lists:
            arguments += (topk.state_version, topk.value, self._hiding_ttl_s if topk.hides else self._ttl_s)
        with translated_errors(self._redis):
            return bool(self._put(keys=keys, args=arguments))

    def advance(self, slices: Sequence[Slice], marks: Sequence[Mark]) -> bool:
        """Mark lists, then move the positions past these slices atomically.

        Returns
        -------
        bool
            `False` if nothing was moved because a slice does not start at the stored position.
        """
        arguments = [offset for part in slices for offset in (part.start, part.next)]
        # one round trip, not a transaction: marks are valid even if the positions stay
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            self.marks.add_to(pipeline, marks)
            # a registered script would first be looked up, in an extra round trip
            pipeline.eval(_ADVANCE, len(slices), *self._position_keys(slices), *arguments)
            return bool(pipeline.execute()[-1])

    def replace_lists(self, lists: Sequence[EncodedList]) -> list[bool]:
        """Replace existing lists, each independently, without changing their time to live."""
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            for topk in lists:
                pipeline.eval(_REPLACE, 1, self._keys.topk(topk.user_id), topk.state_version, topk.value)
            return [bool(written) for written in pipeline.execute()] if lists else []

    def origins(self, user_ids: Sequence[str]) -> list[ListOrigin | None]:
        """Return the source of each list, `None` if there is no readable list."""
        with translated_errors(self._redis):
            stored = values(self._redis, [self._keys.topk(user_id) for user_id in user_ids])
        return [_origin_of(value) for value in stored]

    def put_default(self, default: TopKList) -> None:
        """Replace the default list; an empty one, from a worker that has seen no event yet, is ignored."""
        with translated_errors(self._redis):
            self._redis.set(self._keys.default, _encoder.encode(default), nx=default.event_time_ms == 0)

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read."""
        with translated_errors(self._redis):
            stored = values(self._redis, [self._keys.position(WORKER, source) for source in sources])
        return {source: int(value) for source, value in zip(sources, stored, strict=True) if value is not None}

    def replace_marks(self, withdrawn: Withdrawn) -> None:
        """Set the withdrawn items that readers drop from older lists; see :meth:`mark_items`.

        Where the digest says that they are marked, nothing else is read.
        """
        with translated_errors(self._redis):
            stored: Any = self._redis.get(self._keys.withdrawn_digest)
            if stored == withdrawn.digest.encode():
                return
            comparison = uuid4().hex  # which another one, or a change, ends without a digest
            self._redis.set(self._keys.withdrawn_digest, comparison)
            marked = self._marked()
        oldest_ms = max(withdrawn.items.values(), default=0) - self._hiding_ttl_s * 1_000
        marks = [(item_id, at_ms) for item_id, at_ms in withdrawn.items.items() if at_ms >= oldest_ms]
        marks = [(item_id, at_ms) for item_id, at_ms in marks if marked.get(item_id) != at_ms]
        back = [item_id for item_id in marked if item_id not in withdrawn.items]
        for start in range(0, max(len(marks), len(back)), MARKED_TOGETHER):
            together = slice(start, start + MARKED_TOGETHER)
            self._mark_items(dict(marks[together]), back[together])
        self._change_digest(comparison, withdrawn.digest)

    def mark_items(self, change: WithdrawnChange) -> None:
        """Add and remove withdrawn items that readers drop from lists older than the withdrawal.

        Marks go when no list can be as old.
        """
        self._mark_items(change.withdrawn, change.available)
        self._change_digest(change.before, change.after)

    def _change_digest(self, before: str, after: str) -> None:
        """Change the digest when all else is written: the digest of marks that are not there would hide that."""
        with translated_errors(self._redis):
            self._digest(keys=[self._keys.withdrawn_digest], args=[before, after])

    def _mark_items(self, withdrawn: Mapping[str, int], available: Sequence[str]) -> None:
        with translated_errors(self._redis), self._redis.pipeline(transaction=False) as pipeline:
            if new := self._not_marked(withdrawn):
                # first: an item that is marked but not queued would stay in stored lists
                pipeline.sadd(self._keys.withdrawn_waiting, *new)
            if withdrawn:
                pipeline.zadd(self._keys.withdrawn, dict(withdrawn))
                newest_ms = max(withdrawn.values())
                pipeline.zremrangebyscore(self._keys.withdrawn, "-inf", newest_ms - self._hiding_ttl_s * 1_000)
            if available:
                pipeline.zrem(self._keys.withdrawn, *available)
                pipeline.srem(self._keys.withdrawn_waiting, *available)
                pipeline.srem(self._keys.withdrawn_leaving, *available)
            pipeline.execute()

    def _marked(self) -> dict[str, int]:
        """Return the items that are marked as withdrawn, and when they were."""
        marked: dict[str, int] = {}
        for start in count(0, MARKED_TOGETHER):
            # where others change it meanwhile, one may be left out, which is marked once more then
            found: Any = self._redis.zrange(self._keys.withdrawn, start, start + MARKED_TOGETHER - 1, withscores=True)
            marked |= {item_id.decode(): int(at_ms) for item_id, at_ms in found}
            if len(found) < MARKED_TOGETHER:
                break
        return marked

    def _not_marked(self, withdrawn: Mapping[str, int]) -> list[str]:
        """Return the items that are not yet marked with this time: other workers mark the same ones."""
        if not withdrawn:
            return []
        marks: Any = self._redis.zmscore(self._keys.withdrawn, list(withdrawn))
        return [item_id for (item_id, at_ms), mark in zip(withdrawn.items(), marks, strict=True) if mark != at_ms]

    def _position_keys(self, slices: Sequence[Slice]) -> list[str]:
        return [self._keys.position(WORKER, part.source) for part in slices]


class TopKReader:
    """Reads lists for applications.

    Parameters
    ----------
    url
        Address of Redis.
    installation
        Name of the installation whose lists are read.

    Examples
    --------
    >>> reader = TopKReader("redis://localhost:6379/0")  # doctest: +SKIP
    >>> reader.read("u1").items.ids  # doctest: +SKIP
    ['i7', 'i3']
    """

    def __init__(self, url: str, *, installation: str = "") -> None:
        self._redis = connect(url)
        self._keys = Keys(installation)

    def read(self, user_id: str) -> TopKList | None:
        """Return a user's list, the default list for users without one, or `None` if there is neither."""
        return self.read_many([user_id])[0]

    def read_many(self, user_ids: Sequence[str]) -> list[TopKList | None]:
        """Return the re-scored lists of several users, in order.

        Items withdrawn since are dropped; stale lists are re-scored for changes in popularity.
        """
        with translated_errors(self._redis):
            *stored, default = values(self._redis, [*map(self._keys.topk, user_ids), self._keys.default])
            lists = [_decode(value) for value in (*stored, default)]
            item_ids = list({item_id for topk in lists if topk for item_id in topk.items.ids})
            marks: Any = self._redis.zmscore(self._keys.withdrawn, item_ids) if item_ids else []
        withdrawn = {item_id for item_id, mark in zip(item_ids, marks, strict=True) if mark is not None}
        # before re-scoring: a list with no items left is replaced by the default list
        *own, newest = [_without(topk, withdrawn) if topk and withdrawn else topk for topk in lists]
        return [brought_up_to_date(topk, newest) if topk and newest else topk or newest for topk in own]


def _origin_of(value: bytes | None) -> ListOrigin | None:
    try:
        return None if value is None else _origin_decoder.decode(value)
    except msgspec.DecodeError:
        return None


def _decode(value: bytes | None) -> TopKList | None:
    return None if value is None else decode_list(value)


def _without(topk: TopKList, withdrawn: set[str]) -> TopKList:
    kept = [place for place, item_id in enumerate(topk.items.ids) if item_id not in withdrawn]
    return topk if len(kept) == len(topk.items) else msgspec.structs.replace(topk, items=topk.items.taken(kept))
