"""What every store of interest states does, in memory and in Redis."""

from __future__ import annotations

import msgspec
import pytest
from builders import NOW_MS
from doubles import MemoryInterestStore

from streamrec.adapters.redis import RedisInterestStore, interest_cache
from streamrec.adapters.redis.interest_cache import InterestCache
from streamrec.adapters.redis.interests import decode_state, encode_state
from streamrec.adapters.redis.keys import Keys
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import FoldRules, InterestState
from streamrec.errors import StreamrecError, TransientError
from streamrec.service.batch import TopicPartition

SOURCE = TopicPartition("clicks", 0)


@pytest.fixture(params=["memory", "redis"])
def store(request):
    if request.param == "memory":
        return MemoryInterestStore()
    return RedisInterestStore(request.getfixturevalue("redis_url"), state_ttl_days=1)


@pytest.fixture
def other(store, request):
    """Return the same store as another process has it."""
    if isinstance(store, MemoryInterestStore):
        return store
    return RedisInterestStore(request.getfixturevalue("redis_url"), state_ttl_days=1)


def event(offset, user_id="u1", **fields):
    return Event(user_id, f"i{offset}", NOW_MS + offset, Source(EventType.CLICK, 0), offset, **fields)


def folded(store, offsets, *, user_id="u1"):
    """Load a snapshot and fold events into it, without writing it."""
    snapshot = store.load([user_id], [SOURCE])
    for offset in offsets:
        snapshot.states[user_id].fold(event(offset, user_id), FoldRules(3))
    snapshot.progress[SOURCE].next_offset = offsets[-1] + 1
    snapshot.progress[SOURCE].applied += len(offsets)
    return snapshot


def test_what_was_never_written_is_new(store):
    snapshot = store.load(["u1"], [SOURCE])
    assert snapshot.states["u1"] == InterestState()
    assert snapshot.progress[SOURCE].next_offset is None
    assert store.positions([SOURCE]) == {}


def test_states_and_progress_come_back_as_written(store, other):
    assert store.compare_and_set(folded(store, range(5)))

    snapshot = other.load(["u1"], [SOURCE])
    state = snapshot.states["u1"]
    assert [entry.item_id for entry in state.sequence] == ["i2", "i3", "i4"]
    assert state.beyond.events == [2, 0, 0]
    assert state.fence[(0, 0)].offset == 4
    assert state.version == snapshot.progress[SOURCE].version > 0
    assert snapshot.progress[SOURCE].applied == 5
    assert store.positions([SOURCE]) == {SOURCE: 5}


def test_a_snapshot_that_was_overtaken_writes_nothing(store):
    mine, theirs = folded(store, [0, 1]), folded(store, [0])
    assert store.compare_and_set(theirs)
    assert not store.compare_and_set(mine)

    snapshot = store.load(["u1"], [SOURCE])
    assert len(snapshot.states["u1"].sequence) == 1
    assert snapshot.progress[SOURCE].next_offset == 1


def test_one_overtaken_user_holds_back_all_of_the_batch(store):
    snapshot = store.load(["u1", "u2"], [SOURCE])
    for user_id in ("u1", "u2"):
        snapshot.states[user_id].fold(event(0, user_id), FoldRules(3))
    theirs = store.load(["u2"], [])
    theirs.states["u2"].fold(event(9, "u2"), FoldRules(3))
    assert store.compare_and_set(theirs)

    assert not store.compare_and_set(snapshot)
    assert store.load(["u1"], []).states["u1"] == InterestState()


def test_ids_and_categories_survive(store, other):
    snapshot = store.load(["ü/1"], [SOURCE])
    for offset, id_hash in enumerate([-(2**63), 2**63 - 1, 1]):
        snapshot.states["ü/1"].fold(event(offset, "ü/1", id_hash=id_hash, category="Bücher"), FoldRules(3))
    assert store.compare_and_set(snapshot)

    state = other.load(["ü/1"], []).states["ü/1"]
    assert state.fence[(0, 0)].recent_ids == snapshot.states["ü/1"].fence[(0, 0)].recent_ids
    assert len(set(state.fence[(0, 0)].recent_ids)) == 3
    assert state.sequence[0].category == "Bücher"


def test_batch_after_batch_the_store_has_what_the_writer_has(store, other):
    for first in range(0, 12, 2):
        assert store.compare_and_set(folded(store, [first, first + 1]))
        assert store.compare_and_set(folded(store, [first + 1], user_id=f"u{first + 2}"))
    mine, theirs = (each.load(["u1", "u2", "u12"], [SOURCE]) for each in (store, other))
    assert mine.states == theirs.states
    assert mine.progress == theirs.progress
    assert all(state.version for state in mine.states.values())


def test_what_another_process_wrote_is_seen_at_the_second_attempt(store, other):
    assert store.compare_and_set(folded(store, [0]))
    assert other.compare_and_set(folded(other, [1]))

    mine = folded(store, [2])
    assert store.compare_and_set(mine) is isinstance(store, MemoryInterestStore)
    snapshot = store.load(["u1"], [SOURCE])
    assert {entry.item_id for entry in snapshot.states["u1"].sequence} >= {"i0", "i1"}
    assert snapshot.progress[SOURCE].version == snapshot.states["u1"].version


def test_a_store_that_was_emptied_is_seen_at_the_second_attempt(redis_url, redis_client):
    store = RedisInterestStore(redis_url, state_ttl_days=1)
    assert store.compare_and_set(folded(store, [0]))
    redis_client.flushall()
    assert not store.compare_and_set(folded(store, [1]))
    snapshot = store.load(["u1"], [SOURCE])
    assert snapshot.states["u1"] == InterestState()
    assert snapshot.progress[SOURCE].next_offset is None


def test_a_store_that_was_restored_and_written_since_is_not_taken_for_the_one_before(redis_url, redis_client):
    here, there = (RedisInterestStore(redis_url, state_ttl_days=1) for _ in range(2))
    assert here.compare_and_set(folded(here, [0]))
    backup = {key: redis_client.dump(key) for key in redis_client.scan_iter()}
    assert here.compare_and_set(folded(here, [1]))
    for key, value in backup.items():
        redis_client.restore(key, 0, value, replace=True)
    assert there.compare_and_set(folded(there, [2])), "the second write, as it was here"
    assert not here.compare_and_set(folded(here, [3]))
    assert [entry.item_id for entry in here.load(["u1"], []).states["u1"].sequence] == ["i0", "i2"]


def test_a_partition_that_is_new_to_the_process_makes_it_read_all(redis_url):
    here, there = (RedisInterestStore(redis_url, state_ttl_days=1) for _ in range(2))
    assert here.compare_and_set(folded(here, [0]))
    theirs = there.load(["u1"], [])
    theirs.states["u1"].fold(event(1), FoldRules(3))
    assert there.compare_and_set(theirs)
    assigned = TopicPartition("purchases", 0)
    assert len(here.load(["u1"], [SOURCE, assigned]).states["u1"].sequence) == 2


def test_states_are_cached_up_to_a_number_of_events(monkeypatch):
    monkeypatch.setattr(interest_cache, "MAX_EVENTS", 7)
    cache, memory = InterestCache(), MemoryInterestStore()
    for number in range(20):
        user_id = f"u{number % 6}"
        snapshot = folded(memory, [number, number + 100], user_id=user_id)
        assert memory.compare_and_set(snapshot)
        cache.put(snapshot)
    known = cache.take([f"u{number}" for number in range(6)], [SOURCE])
    assert list(known.states) == ["u0", "u1"], "the latest two, of three events each"
    assert known.progress[SOURCE].version == 20
    assert not cache.take(["u0"], []).states, "they were taken out"


def test_a_state_of_another_format_is_refused(redis_url, redis_client):
    value = msgspec.msgpack.encode([99, *msgspec.msgpack.decode(encode_state(InterestState()))[1:]])
    redis_client.set(Keys().state("u1"), bytes(8) + value)
    with pytest.raises(StreamrecError, match="format 99, this release reads 1"):
        RedisInterestStore(redis_url, state_ttl_days=1).load(["u1"], [])


def test_a_garbled_state_is_refused():
    with pytest.raises(StreamrecError, match="cannot be read"):
        decode_state(bytes(8) + b"\xff\xff")


def test_states_expire(redis_url, redis_client):
    store = RedisInterestStore(redis_url, state_ttl_days=1)
    store.compare_and_set(folded(store, [0]))
    assert 86_000 < redis_client.ttl(Keys().state("u1")) <= 86_400


def test_an_unavailable_server_is_transient():
    with pytest.raises(TransientError, match="Redis"):
        RedisInterestStore("redis://127.0.0.1:1/0", state_ttl_days=1).load(["u1"], [])
