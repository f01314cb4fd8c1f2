"""What every store of lists does, in memory and in Redis, as an application reads them."""

from __future__ import annotations

import msgspec
import pytest
from builders import NOW_MS
from stored_lists import RedisLists, all_withdrawn, encoded, give_back, put, slices, topk, withdraw

from streamrec.adapters.redis import RedisTopKStore, TopKReader
from streamrec.adapters.redis.keys import Keys
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.domain.interest import DAY_MS, InterestState, SequenceEvent
from streamrec.service.batch import TopicPartition
from streamrec.service.list_aging import hide
from streamrec.service.list_ports import ListOrigin

SOURCE = TopicPartition("user-interests", 0)


def test_a_list_comes_back_as_written(store):
    assert put(store, [topk("ü1", "a", "b")], slices(0, 3))
    assert store.read("ü1") == topk("ü1", "a", "b")
    assert store.positions([SOURCE]) == {SOURCE: 3}


def test_without_any_list_there_is_nothing(store):
    assert store.read("u1") is None


def test_a_user_without_a_list_reads_the_default(store):
    store.put_default(topk("", "a"))
    assert store.read("u1") == topk("", "a")


def test_newest_wins(store):
    put(store, [topk("u1", "new", version=10)], slices(0, 1))
    put(store, [topk("u1", "old", version=9)], slices(1, 2))
    assert store.read("u1").items.ids == ["new"]
    assert store.positions([SOURCE]) == {SOURCE: 2}


def test_a_state_that_begins_again_replaces_its_old_list(store):
    """A version never goes back: the state expired, was evicted or deleted, and the list is still there."""

    def state(*offsets, at_ms):
        return InterestState(sequence=[SequenceEvent(at_ms + n, 0, 0, n, f"i{n}", "") for n in offsets])

    before, again = state(*range(50), at_ms=NOW_MS), state(50, at_ms=NOW_MS + DAY_MS)
    put(store, [topk("u1", "old", version=before.content_version)], slices(0, 1))
    put(store, [topk("u1", "new", version=again.content_version)], slices(1, 2))
    assert store.read("u1").items.ids == ["new"]


def test_versions_are_told_apart_to_the_last_digit(store):
    version = InterestState(sequence=[SequenceEvent(NOW_MS, 0, 0, 1, "i1", "")]).content_version
    put(store, [topk("u1", "new", version=version + 1)], slices(0, 1))
    put(store, [topk("u1", "old", version=version)], slices(1, 2))
    assert store.read("u1").items.ids == ["new"]


def test_a_list_of_a_release_that_counted_events_is_replaced(store):
    version = InterestState(sequence=[SequenceEvent(NOW_MS, 0, 0, 1, "i1", "")]).content_version
    put(store, [topk("u1", "old", version=5_000)], slices(0, 1))
    put(store, [topk("u1", "new", version=version)], slices(1, 2))
    assert store.read("u1").items.ids == ["new"]


def test_a_slice_from_elsewhere_writes_nothing(store):
    put(store, [topk("u1", "a")], slices(0, 5))
    assert not put(store, [topk("u1", "b", version=2), topk("u2", "b")], slices(3, 8))
    assert store.read("u1").items.ids == ["a"]
    assert store.read("u2") is None
    assert store.positions([SOURCE]) == {SOURCE: 5}


def test_a_store_that_was_emptied_takes_nothing_but_the_beginning(store):
    assert not store.put_lists([], slices(3, 8))
    assert not store.advance(slices(3, 8), [])
    assert store.positions([SOURCE]) == {}


def test_lists_leave_the_positions_alone(store):
    work = slices(0, 5)
    assert store.put_lists([], work)
    assert store.positions([SOURCE]) == {}
    assert store.advance(work, [])
    assert not store.advance(work, [])
    assert store.positions([SOURCE]) == {SOURCE: 5}


def test_readers_drop_withdrawn_items_until_they_are_back(store):
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    withdraw(store, "a")
    assert store.read("u1").items.ids == ["b"]
    give_back(store, "a")
    assert store.read("u1").items.ids == ["a", "b"]


def test_a_list_that_has_lost_all_items_gives_way_to_the_default_without_what_it_hides(store):
    put(store, [msgspec.structs.replace(topk("u1", "a", "b"), hidden=hide("c"))], slices(0, 1))
    store.put_default(topk("", "a", "c", "d"))
    withdraw(store, "a", "b")
    assert store.read("u1").items.ids == ["d"]
    assert store.read("unknown").items.ids == ["c", "d"]


def test_marks_are_replaced_as_a_whole(store):
    put(store, [topk("u1", "a", "b", "c")], slices(0, 1))
    withdraw(store, "a", "b")
    store.replace_marks(all_withdrawn({"b": NOW_MS, "c": NOW_MS}))
    assert store.read("u1").items.ids == ["a"]
    store.replace_marks(all_withdrawn({}))
    assert store.read("u1").items.ids == ["a", "b", "c"]


def test_a_worker_that_has_seen_no_event_leaves_the_default_list_alone(store):
    nothing_seen = msgspec.structs.replace(topk("", "z"), event_time_ms=0)
    store.put_default(nothing_seen)
    assert store.read("u1") == nothing_seen, "better than none"
    store.put_default(topk("", "a"))
    store.put_default(nothing_seen)
    assert store.read("u1") == topk("", "a")


def test_the_list_of_a_user_who_has_been_away_follows_what_became_popular(store):
    def scored(scores, **fields):
        items = [ListItem(item_id, score, Reason("model"), prior) for item_id, (score, prior) in scores.items()]
        return msgspec.structs.replace(topk("", version=1), items=ListedItems.of(items), **fields)

    own = scored({"faded": (-1.0, -2.0), "steady": (-1.5, -4.0)}, user_id="u1")
    put(store, [own], slices(0, 1))
    default = {"new": (-0.5, -0.5), "steady": (-4.0, -4.0), "least": (-6.0, -6.0)}
    store.put_default(scored(default, event_time_ms=NOW_MS + DAY_MS))
    assert store.read("u1").items.ids == ["new", "steady"]


def test_lists_expire_and_so_do_marks(redis_url, redis_client):
    store = RedisTopKStore(redis_url, list_ttl_days=1)
    put(store, [topk("u1", "a")], slices(0, 1))
    assert 86_000 < redis_client.ttl(Keys().topk("u1")) <= 86_400

    withdraw(store, "old", at_ms=NOW_MS - 86_400_001)
    withdraw(store, "new")
    assert redis_client.zrange(Keys().withdrawn, 0, -1) == [b"new"]


def test_a_list_that_leaves_items_out_lives_as_long_as_the_state_that_says_so(redis_url, redis_client):
    store = RedisTopKStore(redis_url, list_ttl_days=1, hiding_ttl_days=3)
    hides = msgspec.structs.replace(topk("u2", "a"), hidden=hide(["b"]))
    put(store, [topk("u1", "a"), hides], slices(0, 1))
    days = [redis_client.ttl(Keys().topk(user_id)) / 86_400 for user_id in ("u1", "u2")]
    assert days == [pytest.approx(1, abs=0.01), pytest.approx(3, abs=0.01)]

    withdraw(store, "old", at_ms=NOW_MS - 3 * 86_400_000 - 1)
    withdraw(store, "older than a day", at_ms=NOW_MS - 2 * 86_400_000)
    withdraw(store, "new")
    assert redis_client.zrange(Keys().withdrawn, 0, -1) == [b"older than a day", b"new"]


def test_the_stored_list_is_the_published_one(redis_url, redis_client):
    put(RedisTopKStore(redis_url, list_ttl_days=1), [topk("u1", "a")], slices(0, 1))
    assert msgspec.json.decode(redis_client.get("rec:u1"), type=TopKList) == topk("u1", "a")


def test_lists_that_are_made_again_replace_what_is_there_and_nothing_newer(store):
    put(store, [topk("u1", "old", version=2), topk("u2", "newer", version=3)], slices(0, 1))
    made = encoded(topk("u1", "new", version=2), topk("u2", "new", version=2), topk("u3", "new"))
    assert store.replace_lists(made) == [True, False, False]
    assert store.read("u1").items.ids == ["new"]
    assert store.read("u2").items.ids == ["newer"]
    assert store.read("u3") is None
    assert store.origins(["u1", "u3"]) == [ListOrigin(2, NOW_MS), None]
    assert store.replace_lists([]) == []


def test_a_list_that_is_made_again_lives_no_longer(redis_url, redis_client):
    store = RedisLists(redis_url)
    put(store, [topk("u1", "old")], slices(0, 1))
    redis_client.expire(Keys().topk("u1"), 100)
    store.replace_lists(encoded(topk("u1", "new")))
    assert 0 < redis_client.ttl(Keys().topk("u1")) <= 100


def test_what_is_no_list_is_replaced_by_one(redis_url, redis_client):
    redis_client.hset(Keys().topk("u1"), "of", "somebody")
    redis_client.set(Keys().topk("u2"), b"\xff no list")
    store = RedisTopKStore(redis_url, list_ttl_days=1)
    assert put(store, [topk("u1", "a"), topk("u2", "b")], slices(0, 1))
    assert [TopKReader(redis_url).read(user) for user in ("u1", "u2")] == [topk("u1", "a"), topk("u2", "b")]
