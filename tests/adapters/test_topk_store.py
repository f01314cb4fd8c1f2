"""What every store of lists does, in memory and in Redis, as an application reads them."""

from __future__ import annotations

import msgspec
import pytest
from builders import NOW_MS, part
from doubles import MemoryPublisher, MemoryTopKStore

from streamrec.adapters.redis import RedisListMarks, RedisTopKStore, TopKReader, list_marks
from streamrec.adapters.redis.keys import Keys
from streamrec.adapters.redis.list_scan import ListScan
from streamrec.contracts.derived import ListItem, Reason, TopKList
from streamrec.domain.interest import DAY_MS, InterestState, SequenceEvent
from streamrec.errors import TransientError
from streamrec.service.batch import TopicPartition
from streamrec.service.clean_lists import CleanLists
from streamrec.service.list_aging import hide
from streamrec.service.list_marks import Census, Facts, Made, Mark
from streamrec.service.list_ports import EncodedList, ListOrigin

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
    return store.put_lists(encoded, slices) and store.advance(slices, [])


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


def test_a_state_that_begins_again_replaces_its_old_list(store):
    """A version never goes back: the state expired, was evicted or deleted, and the list is still there."""

    def state(*offsets, at_ms):
        return InterestState(sequence=[SequenceEvent(at_ms + n, 0, 0, n, f"i{n}", "") for n in offsets])

    before, again = state(*range(50), at_ms=NOW_MS), state(50, at_ms=NOW_MS + DAY_MS)
    put(store, [topk("u1", "old", version=before.content_version)], slices(0, 1))
    put(store, [topk("u1", "new", version=again.content_version)], slices(1, 2))
    assert [item.item_id for item in store.read("u1").items] == ["new"]


def test_versions_are_told_apart_to_the_last_digit(store):
    version = InterestState(sequence=[SequenceEvent(NOW_MS, 0, 0, 1, "i1", "")]).content_version
    put(store, [topk("u1", "new", version=version + 1)], slices(0, 1))
    put(store, [topk("u1", "old", version=version)], slices(1, 2))
    assert [item.item_id for item in store.read("u1").items] == ["new"]


def test_a_list_of_a_release_that_counted_events_is_replaced(store):
    version = InterestState(sequence=[SequenceEvent(NOW_MS, 0, 0, 1, "i1", "")]).content_version
    put(store, [topk("u1", "old", version=5_000)], slices(0, 1))
    put(store, [topk("u1", "new", version=version)], slices(1, 2))
    assert [item.item_id for item in store.read("u1").items] == ["new"]


def test_a_slice_from_elsewhere_writes_nothing(store):
    put(store, [topk("u1", "a")], slices(0, 5))
    assert not put(store, [topk("u1", "b", version=2), topk("u2", "b")], slices(3, 8))
    assert [item.item_id for item in store.read("u1").items] == ["a"]
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
    store.mark_items({"a": NOW_MS}, [])
    assert [item.item_id for item in store.read("u1").items] == ["b"]
    store.mark_items({}, ["a"])
    assert [item.item_id for item in store.read("u1").items] == ["a", "b"]


def test_a_list_that_has_lost_all_items_gives_way_to_the_default_without_what_it_hides(store):
    put(store, [msgspec.structs.replace(topk("u1", "a", "b"), hidden=hide("c"))], slices(0, 1))
    store.put_default(topk("", "a", "c", "d"))
    store.mark_items({"a": NOW_MS, "b": NOW_MS}, [])
    assert [item.item_id for item in store.read("u1").items] == ["d"]
    assert [item.item_id for item in store.read("unknown").items] == ["c", "d"]


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


def encoded(*lists):
    return [EncodedList(each.user_id, each.state_version, msgspec.json.encode(each)) for each in lists]


def test_lists_that_are_made_again_replace_what_is_there_and_nothing_newer(store):
    put(store, [topk("u1", "old", version=2), topk("u2", "newer", version=3)], slices(0, 1))
    made = encoded(topk("u1", "new", version=2), topk("u2", "new", version=2), topk("u3", "new"))
    assert store.replace_lists(made) == [True, False, False]
    assert [item.item_id for item in store.read("u1").items] == ["new"]
    assert [item.item_id for item in store.read("u2").items] == ["newer"]
    assert store.read("u3") is None
    assert store.origins(["u1", "u3"]) == [ListOrigin(2, NOW_MS), None]
    assert store.replace_lists([]) == []


def test_a_list_that_is_made_again_lives_no_longer(redis_url, redis_client):
    store = RedisLists(redis_url)
    put(store, [topk("u1", "old")], slices(0, 1))
    redis_client.expire(Keys().topk("u1"), 100)
    store.replace_lists(encoded(topk("u1", "new")))
    assert 0 < redis_client.ttl(Keys().topk("u1")) <= 100


def mark(user_id, made, score=1, short_at=None):
    return Mark(user_id, made, score, short_at)


FACTS = Facts(version="v", events=1_000, known_items=30, other_items=10, top_k=50)


def test_marks_say_how_a_list_was_made_last(store):
    store.advance(
        slices(0, 1),
        [mark("u1", Made.BEHIND, 900), mark("u2", Made.POOR, NOW_MS, 40), mark("u3", Made.COMPLETE, 400, 39)],
    )
    assert store.marks.count(FACTS) == Census(poor=1, far=1, short=1, behind=1, complete=1, all_short=2)
    assert store.marks.short(9, below=40) == ["u3"]
    assert store.marks.newest(Made.COMPLETE, 9, below=500) == ["u3"]
    assert store.marks.newest(Made.COMPLETE, 9, below=400) == []

    store.marks.mark([mark("u2", Made.COMPLETE, 1_000), mark("u3", Made.BEHIND, 1_000)])
    assert store.marks.count(FACTS) == Census(behind=2, complete=1)
    assert store.marks.newest(Made.BEHIND, 9) == ["u3", "u1"]
    assert store.marks.newest(Made.BEHIND, 1) == ["u3"]


def test_marks_of_lists_that_are_no_more_are_dropped(store):
    store.marks.mark([mark("u1", Made.POOR, 5, 3), mark("u2", Made.BEHIND, 5)])
    store.marks.drop(["u1"])
    assert store.marks.count(FACTS) == Census(far=1, behind=1)


def test_facts_come_back_as_kept(store):
    assert store.marks.facts() == Facts()
    store.marks.keep(FACTS)
    assert store.marks.facts() == FACTS


def test_marks_are_bounded_and_the_oldest_go(redis_url, monkeypatch):
    monkeypatch.setattr(list_marks, "MAX_MARKED", 2)
    marks = RedisListMarks(redis_url)
    marks.mark([mark(f"u{number}", Made.BEHIND, number) for number in range(5)])
    marks.trim()
    assert marks.newest(Made.BEHIND, 9) == ["u4", "u3"]


def test_one_process_at_a_time_makes_lists_again(redis_url, redis_client):
    first, second = RedisListMarks(redis_url), RedisListMarks(redis_url)
    assert first.claim()
    assert not second.claim()
    assert first.claim()
    redis_client.delete(Keys().lists("claim"))
    assert second.claim()


def test_a_scan_marks_what_is_short_or_of_another_version(redis_url):
    store = RedisLists(redis_url)
    full = [f"i{number}" for number in range(50)]
    now = [topk("good", *full), topk("short", "a"), msgspec.structs.replace(topk("old", *full), model_version="m0")]
    put(store, now, slices(0, 1))
    store.put_default(topk("", "a"))
    facts = msgspec.structs.replace(FACTS, version="m1")
    *_, last = ListScan(redis_url).run(facts)
    assert last == (3, 2)
    assert sorted(store.marks.newest(Made.POOR, 9)) == ["old", "short"]


def cleaned(user_id, *item_ids):
    """Return a list that others were taken out of."""
    return msgspec.structs.replace(topk(user_id, *item_ids), rebuilt=True)


def clean(store):
    """Take the waiting items out of all lists, as `recall` does; answer with what was published."""
    publisher = MemoryPublisher()
    cleaning = CleanLists(store.stored, publisher, store.marks)
    while cleaning.step():
        pass
    return {record.key.decode(): msgspec.json.decode(record.value, type=TopKList) for record in publisher.records}


@pytest.mark.parametrize("others", [0, 100])
def test_withdrawn_items_leave_stored_lists(store, others):
    odd = 'quo"te\\, "score":ü'
    put(store, [topk("u1", "a", "b"), topk("u2", "b", odd), topk("u3", "c")], slices(0, 3))
    store.mark_items({"a": NOW_MS, odd: NOW_MS} | {f"other-{n}": NOW_MS for n in range(others)}, [])
    assert clean(store) == {"u1": cleaned("u1", "b"), "u2": cleaned("u2", "b")}
    store.mark_items({}, ["a", odd])
    lists = [store.read(user) for user in ("u1", "u2", "u3")]
    assert lists == [cleaned("u1", "b"), cleaned("u2", "b"), topk("u3", "c")]


def test_a_list_that_lost_items_waits_to_be_made_again(store):
    put(store, [topk("u1", "a", "b"), topk("u2", "b")], slices(0, 2))
    assert store.marks.short(10, below=1) == []
    store.mark_items({"a": NOW_MS}, [])
    clean(store)
    assert store.marks.short(10, below=1) == ["u1"]


def test_lists_are_looked_through_once_for_a_withdrawal(store):
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    cleaning = CleanLists(store.stored, MemoryPublisher(), store.marks)
    assert not cleaning.is_needed()
    store.mark_items({"a": NOW_MS}, [])
    assert cleaning.is_needed()
    assert clean(store)
    for _ in range(2):  # as after a restart, or by another worker
        store.replace_marks({"a": NOW_MS})
        store.mark_items({"a": NOW_MS}, [])
    assert not cleaning.is_needed()
    store.mark_items({}, ["a"])
    store.mark_items({"a": NOW_MS + 1}, [])
    assert cleaning.is_needed(), "withdrawn again"
    store.mark_items({}, ["a"])
    assert not cleaning.is_needed(), "back before anybody looked"


def test_a_list_made_meanwhile_is_left_alone(store):
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    _, found = store.stored.lists_with({"a"}, 0)
    newer = topk("u1", "c", version=2)
    put(store, [newer], slices(1, 2))
    assert store.stored.swap_lists([("u1", found[0], msgspec.json.encode(topk("u1", "b")))]) == [False]
    assert store.read("u1") == newer


def test_a_broker_that_is_unavailable_delays_a_pass(store):
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    store.mark_items({"a": NOW_MS}, [])
    publisher = MemoryPublisher()
    publisher.failures = 1
    cleaning = CleanLists(store.stored, publisher, store.marks)
    with pytest.raises(TransientError):
        cleaning.step()
    while cleaning.step():
        pass
    assert [msgspec.json.decode(each.value, type=TopKList) for each in publisher.records] == [cleaned("u1", "b")]
    assert not cleaning.is_needed()


def test_a_cleaned_list_lives_no_longer(redis_url, redis_client):
    store = RedisTopKStore(redis_url, list_ttl_days=1)
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    redis_client.expire(Keys().topk("u1"), 1_000)
    store.mark_items({"a": NOW_MS}, [])
    clean(store)
    assert b'"a"' not in redis_client.get(Keys().topk("u1"))
    assert 900 < redis_client.ttl(Keys().topk("u1")) <= 1_000


def test_one_worker_cleans_at_a_time(redis_url):
    one, other = (RedisTopKStore(redis_url, list_ttl_days=1) for _ in range(2))
    put(one, [topk("u1", "a", "b")], slices(0, 1))
    one.mark_items({"a": NOW_MS}, [])
    assert one.stored.claim_cleaning(60)
    assert not CleanLists(other.stored, MemoryPublisher(), other.marks).step()
    assert clean(one)


def test_an_installation_cleans_its_own_lists(redis_url):
    ours = RedisTopKStore(redis_url, list_ttl_days=1, installation="shop2")
    theirs = RedisTopKStore(redis_url, list_ttl_days=1)
    for store in (ours, theirs):
        put(store, [topk("u1", "a", "b")], slices(0, 1))
    ours.mark_items({"a": NOW_MS}, [])
    assert list(clean(ours)) == ["u1"]
    assert theirs.stored.lists_with({"a"}, 0)[1]


def test_marks_that_have_expired_wait_for_nothing(redis_url):
    store = RedisTopKStore(redis_url, list_ttl_days=1)
    for _ in range(2):
        store.replace_marks({"old": NOW_MS - 2 * DAY_MS, "new": NOW_MS})
        assert store.stored.withdrawn_waiting(10) in (["new"], [])
        store.stored.withdrawn_cleaned(["new"])


def test_what_is_no_list_is_replaced_by_one(redis_url, redis_client):
    redis_client.hset(Keys().topk("u1"), "of", "somebody")
    redis_client.set(Keys().topk("u2"), b"\xff no list")
    store = RedisTopKStore(redis_url, list_ttl_days=1)
    assert put(store, [topk("u1", "a"), topk("u2", "b")], slices(0, 1))
    assert [TopKReader(redis_url).read(user) for user in ("u1", "u2")] == [topk("u1", "a"), topk("u2", "b")]
