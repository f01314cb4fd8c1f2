"""What every store of lists does, in memory and in Redis, as an application reads them."""

from __future__ import annotations

import msgspec
import pytest
from builders import NOW_MS, part
from doubles import MemoryTopKStore

from streamrec.adapters.redis import RedisTopKStore, TopKReader
from streamrec.adapters.redis.keys import Keys
from streamrec.contracts.derived import ListItem, Reason, TopKList
from streamrec.domain.interest import DAY_MS
from streamrec.service.batch import TopicPartition
from streamrec.service.ports import EncodedList

SOURCE = TopicPartition("user-interests", 0)


class RedisLists(RedisTopKStore):
    """The real store, with the real reader beside it."""

    def __init__(self, url):
        super().__init__(url, list_ttl_days=1)
        self.read = TopKReader(url).read


@pytest.fixture(params=["memory", "redis"])
def store(request):
    return MemoryTopKStore() if request.param == "memory" else RedisLists(request.getfixturevalue("redis_url"))


def topk(user_id, *item_ids, version=1):
    return TopKList(
        state_version=version,
        list_id=f"list-{version}",
        user_id=user_id,
        items=[ListItem(item_id, 1.0, Reason("model", "i0")) for item_id in item_ids],
        model_version="m1",
        arm="personal",
        event_time_ms=NOW_MS,
        produced_at_ms=NOW_MS,
        made_at_ms=NOW_MS,
    )


def put(store, lists, slices):
    """Write lists and move the positions, as a batch does; answer whether both were done."""
    encoded = [EncodedList(each.user_id, each.state_version, msgspec.json.encode(each)) for each in lists]
    return store.put_lists(encoded, slices) and store.advance(slices)


def slices(start, following):
    return [part("user-interests", [b""] * (following - start), start=start)]


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
    assert [item.item_id for item in store.read("u1").items] == ["new"]
    assert store.positions([SOURCE]) == {SOURCE: 2}


def test_a_slice_from_elsewhere_writes_nothing(store):
    put(store, [topk("u1", "a")], slices(0, 5))
    assert not put(store, [topk("u1", "b", version=2), topk("u2", "b")], slices(3, 8))
    assert [item.item_id for item in store.read("u1").items] == ["a"]
    assert store.read("u2") is None
    assert store.positions([SOURCE]) == {SOURCE: 5}


def test_a_store_that_was_emptied_takes_nothing_but_the_beginning(store):
    assert not store.put_lists([], slices(3, 8))
    assert not store.advance(slices(3, 8))
    assert store.positions([SOURCE]) == {}


def test_lists_leave_the_positions_alone(store):
    work = slices(0, 5)
    assert store.put_lists([], work)
    assert store.positions([SOURCE]) == {}
    assert store.advance(work)
    assert not store.advance(work)
    assert store.positions([SOURCE]) == {SOURCE: 5}


def test_readers_drop_withdrawn_items_until_they_are_back(store):
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    store.mark_items({"a": NOW_MS}, [])
    assert [item.item_id for item in store.read("u1").items] == ["b"]
    store.mark_items({}, ["a"])
    assert [item.item_id for item in store.read("u1").items] == ["a", "b"]


def test_marks_are_replaced_as_a_whole(store):
    put(store, [topk("u1", "a", "b", "c")], slices(0, 1))
    store.mark_items({"a": NOW_MS, "b": NOW_MS}, [])
    store.replace_marks({"b": NOW_MS, "c": NOW_MS})
    assert [item.item_id for item in store.read("u1").items] == ["a"]
    store.replace_marks({})
    assert [item.item_id for item in store.read("u1").items] == ["a", "b", "c"]


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
        return msgspec.structs.replace(topk("", version=1), items=items, **fields)

    own = scored({"faded": (-1.0, -2.0), "steady": (-1.5, -4.0)}, user_id="u1")
    put(store, [own], slices(0, 1))
    default = {"new": (-0.5, -0.5), "steady": (-4.0, -4.0), "least": (-6.0, -6.0)}
    store.put_default(scored(default, event_time_ms=NOW_MS + DAY_MS))
    assert [item.item_id for item in store.read("u1").items] == ["new", "steady"]


def test_lists_expire_and_so_do_marks(redis_url, redis_client):
    store = RedisTopKStore(redis_url, list_ttl_days=1)
    put(store, [topk("u1", "a")], slices(0, 1))
    assert 86_000 < redis_client.ttl(Keys().topk("u1")) <= 86_400

    store.mark_items({"old": NOW_MS - 86_400_001}, [])
    store.mark_items({"new": NOW_MS}, [])
    assert redis_client.zrange(Keys().withdrawn, 0, -1) == [b"new"]


def test_the_stored_list_is_the_published_one(redis_url, redis_client):
    put(RedisTopKStore(redis_url, list_ttl_days=1), [topk("u1", "a")], slices(0, 1))
    assert msgspec.json.decode(redis_client.get("rec:u1"), type=TopKList) == topk("u1", "a")
