"""Interest states in Redis.

A value is an eight-byte version, random, followed by a msgpack array. A batch is read by one MGET, except what this
process wrote last, and written by one script, which compares all versions before writing: states and positions are
written atomically.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import randbits
from typing import Any, TypeVar

import msgspec

from streamrec.adapters.redis.client import connect, translated_errors, values
from streamrec.adapters.redis.interest_cache import InterestCache
from streamrec.adapters.redis.keys import Keys
from streamrec.adapters.redis.server import require_fit
from streamrec.adapters.redis.topic_ids import RedisTopicIds
from streamrec.domain.interest import Beyond, Fence, InterestState, SequenceEvent
from streamrec.domain.seen import Seen
from streamrec.errors import StreamrecError
from streamrec.service.batch import Positions, TopicPartition
from streamrec.service.ports import InterestSnapshot, Progress

WORKER = "interests"
DAY_S = 86_400

FORMAT = 1
"""Version of the encoding of states and progress; other versions are refused. An optional element at the end of a state
does not need a new version: older releases refuse states that have it."""

_VERSION_BYTES, _VERSION_BITS = 8, 64

_COMPARE_AND_SET = """
-- ARGV: seconds to live of states, number of states; then for each key the expected version and the new value
local states = tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
  if redis.call('GETRANGE', key, 0, 7) ~= ARGV[2 * i + 1] then return 0 end
end
for i, key in ipairs(KEYS) do
  if i <= states then redis.call('SET', key, ARGV[2 * i + 2], 'EX', ARGV[1])
  else redis.call('SET', key, ARGV[2 * i + 2]) end
end
return 1
"""


class _StoredState(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A stored state, an array."""

    format: int
    sequence: list[SequenceEvent]
    beyond: tuple[list[int], int, dict[int, list[float]]] | None
    """`events`, `reference_ms` and `sums` of :class:`~streamrec.domain.interest.Beyond`."""
    fence: list[tuple[int, int, int, list[int]]]
    """Event type, partition, offset, recent ids."""
    seen: tuple[dict[str, int], dict[str, int]] | None = None
    """`purchased` and `clicked` of :class:`~streamrec.domain.seen.Seen`; omitted if empty."""
    disliked: dict[str, int] = {}
    """Omitted if empty."""


class _StoredProgress(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The stored progress of a partition, an array."""

    format: int
    next_offset: int | None
    applied: int
    duplicates: int
    dead_lettered: int


T = TypeVar("T", _StoredState, _StoredProgress)

_encoder = msgspec.msgpack.Encoder()
_state_decoder = msgspec.msgpack.Decoder(_StoredState)
_progress_decoder = msgspec.msgpack.Decoder(_StoredProgress)


class RedisInterestStore:
    """Stores interest states and the progress of their source partitions.

    Parameters
    ----------
    url
        Address of Redis.
    state_ttl_days
        A state expires after this many days without an event.
    installation
        Name of the installation, which prefixes all keys.
    """

    def __init__(self, url: str, *, state_ttl_days: int, installation: str = "") -> None:
        self._redis = connect(url)
        self._keys = Keys(installation)
        self.topics = RedisTopicIds(self._redis, self._keys, WORKER)
        """Ids of the topics that the positions refer to."""
        self._compare_and_set = self._redis.register_script(_COMPARE_AND_SET)
        self._ttl_s = state_ttl_days * DAY_S
        self._cache = InterestCache()

    def check(self) -> list[str]:
        """Return warnings about the server, or raise like :func:`require_fit`."""
        return require_fit(self._redis)

    def load(self, user_ids: Sequence[str], sources: Sequence[TopicPartition]) -> InterestSnapshot:
        """Return states and progress, read in one round trip unless this process wrote them last; missing ones empty.

        If something else was written since, :meth:`compare_and_set` does not write, and the next call reads all.

        Raises
        ------
        StreamrecError
            If a state was written in another format.
        TransientError
            If Redis does not answer.
        """
        known = self._cache.take(user_ids, sources)
        read = self._read(
            [user_id for user_id in user_ids if user_id not in known.states],
            [source for source in sources if source not in known.progress],
        )
        return InterestSnapshot(known.states | read.states, known.progress | read.progress)

    def _read(self, user_ids: Sequence[str], sources: Sequence[TopicPartition]) -> InterestSnapshot:
        keys = [self._keys.state(user_id) for user_id in user_ids]
        keys += [self._keys.position(WORKER, source) for source in sources]
        if not keys:
            return InterestSnapshot()
        with translated_errors(self._redis):
            stored = values(self._redis, keys)
        return InterestSnapshot(
            {user_id: decode_state(value) for user_id, value in zip(user_ids, stored[: len(user_ids)], strict=True)},
            {source: _decode_progress(value) for source, value in zip(sources, stored[len(user_ids) :], strict=True)},
        )

    def compare_and_set(self, snapshot: InterestSnapshot) -> bool:
        """Write everything atomically, with a new version, unless anything was written since it was read.

        Versions are random: a server that was restored from an older state, and written since, does not reach one that
        this process knows with other contents.
        """
        version = randbits(_VERSION_BITS) or 1
        keys: list[str] = []
        arguments: list[Any] = [self._ttl_s, len(snapshot.states)]
        for user_id, state in snapshot.states.items():
            keys.append(self._keys.state(user_id))
            arguments += (_expected(state.version), _prefix(version) + encode_state(state))
        for source, progress in snapshot.progress.items():
            keys.append(self._keys.position(WORKER, source))
            arguments += (_expected(progress.version), _prefix(version) + _encode_progress(progress))
        with translated_errors(self._redis):
            written = bool(self._compare_and_set(keys=keys, args=arguments))
        if not written:
            self._cache.clear()
            return False
        for state in snapshot.states.values():
            state.version = version
        for progress in snapshot.progress.values():
            progress.version = version
        self._cache.put(snapshot)
        return True

    def progress(self, sources: Sequence[TopicPartition]) -> dict[TopicPartition, Progress]:
        """Return the progress of each source."""
        return self._read([], sources).progress

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read."""
        return {
            source: progress.next_offset
            for source, progress in self.progress(sources).items()
            if progress.next_offset is not None
        }


def encode_state(state: InterestState) -> bytes:
    """Encode a state, without its version."""
    beyond, seen = state.beyond, (state.seen.purchased, state.seen.clicked) if state.seen else None
    return _encoder.encode(
        (
            FORMAT,
            state.sequence,
            (beyond.events, beyond.reference_ms, beyond.sums) if beyond else None,
            [(*source, fence.offset, fence.recent_ids) for source, fence in state.fence.items()],
            *([seen, state.disliked] if state.disliked else [seen] if seen else []),
        )
    )


def decode_state(value: bytes | None) -> InterestState:
    """Decode a stored state, or return a new one if there is none."""
    if value is None:
        return InterestState()
    stored = _decode(value, _state_decoder, "an interest state")
    return InterestState(
        version=int.from_bytes(value[:_VERSION_BYTES], "big"),
        sequence=stored.sequence,
        beyond=_beyond(*stored.beyond) if stored.beyond else None,
        fence={(kind, partition): Fence(offset, ids) for kind, partition, offset, ids in stored.fence},
        seen=Seen(*stored.seen) if stored.seen else None,
        disliked=stored.disliked,
    )


def _beyond(events: list[int], reference_ms: int, sums: dict[int, list[float]]) -> Beyond:
    # of clicks and purchases alone in states of earlier releases
    return Beyond(events + [0] * (len(Beyond().events) - len(events)), reference_ms, sums)


def _encode_progress(progress: Progress) -> bytes:
    return _encoder.encode(
        (FORMAT, progress.next_offset, progress.applied, progress.duplicates, progress.dead_lettered),
    )


def _decode_progress(value: bytes | None) -> Progress:
    if value is None:
        return Progress()
    stored = _decode(value, _progress_decoder, "the progress of a partition")
    return Progress(
        int.from_bytes(value[:_VERSION_BYTES], "big"),
        stored.next_offset,
        stored.applied,
        stored.duplicates,
        stored.dead_lettered,
    )


def _decode(value: bytes, decoder: msgspec.msgpack.Decoder[T], what: str) -> T:
    """Decode a stored value after checking its format.

    Raises
    ------
    StreamrecError
        If it has another format, or is invalid.
    """
    stored = memoryview(value)[_VERSION_BYTES:]
    try:
        decoded = decoder.decode(stored)
        number: object = decoded.format
    except msgspec.DecodeError as error:
        number = _format_of(stored)
        if number in (None, FORMAT):
            raise StreamrecError(f"{what} in Redis cannot be read: {error}") from error
    if number != FORMAT:
        raise StreamrecError(f"{what} in Redis has format {number}, this release reads {FORMAT}")
    return decoded


def _format_of(stored: memoryview) -> object:
    """Return the value in the position of the format number, `None` if there is none."""
    try:
        array: Any = msgspec.msgpack.decode(stored)
    except msgspec.DecodeError:
        return None
    return array[0] if isinstance(array, list) and array else None


def _prefix(version: int) -> bytes:
    return version.to_bytes(_VERSION_BYTES, "big")


def _expected(version: int) -> bytes:
    return _prefix(version) if version else b""
