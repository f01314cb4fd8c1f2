"""Withdrawn items leave all lists of a store, in memory and in Redis."""

from __future__ import annotations

import msgspec
import pytest
from builders import NOW_MS
from doubles import MemoryPublisher
from stored_lists import RedisLists, all_withdrawn, give_back, put, slices, topk, withdraw

from streamrec.adapters.redis import RedisTopKStore
from streamrec.adapters.redis.keys import Keys
from streamrec.contracts.derived import TopKList
from streamrec.domain.interest import DAY_MS
from streamrec.errors import TransientError
from streamrec.service.clean_lists import CleanLists


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
    withdraw(store, "a", odd, *(f"other-{n}" for n in range(others)))
    assert clean(store) == {"u1": cleaned("u1", "b"), "u2": cleaned("u2", "b")}
    give_back(store, "a", odd)
    lists = [store.read(user) for user in ("u1", "u2", "u3")]
    assert lists == [cleaned("u1", "b"), cleaned("u2", "b"), topk("u3", "c")]


EARLIER = (
    '{"state_version":1,"list_id":"list-1","user_id":"u1","items":[{"item_id":"a","score":1.0,"reason":'
    '{"channel":"model","item_id":"i0"},"prior":null},{"item_id":"b","score":1.0,"reason":{"channel":"model",'
    '"item_id":"i0"},"prior":null}],"model_version":"m1","arm":"personal","event_time_ms":1760000000000,'
    '"produced_at_ms":1760000000000,"made_at_ms":1760000000000}'
)
"""The list of a and b, as earlier releases stored it."""


@pytest.mark.parametrize("others", [0, 100])
@pytest.mark.parametrize("is_earlier", [False, True])
def test_an_item_that_led_to_others_is_not_in_the_list(redis_url, redis_client, others, is_earlier):
    store = RedisLists(redis_url)
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    if is_earlier:
        redis_client.set(Keys().topk("u1"), EARLIER)
    assert store.read("u1") == topk("u1", "a", "b")
    withdraw(store, "i0", *(f"other-{n}" for n in range(others)))
    assert clean(store) == {}
    withdraw(store, "a")
    assert clean(store) == {"u1": cleaned("u1", "b")}


def test_a_list_that_lost_items_waits_to_be_made_again(store):
    put(store, [topk("u1", "a", "b"), topk("u2", "b")], slices(0, 2))
    assert store.marks.short(10, below=1) == []
    withdraw(store, "a")
    clean(store)
    assert store.marks.short(10, below=1) == ["u1"]


def test_lists_are_looked_through_once_for_a_withdrawal(store):
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    cleaning = CleanLists(store.stored, MemoryPublisher(), store.marks)
    assert not cleaning.is_needed()
    withdraw(store, "a")
    assert cleaning.is_needed()
    assert clean(store)
    for _ in range(2):  # as after a restart, or by another worker
        store.replace_marks(all_withdrawn({"a": NOW_MS}))
        withdraw(store, "a")
    assert not cleaning.is_needed()
    give_back(store, "a")
    withdraw(store, "a", at_ms=NOW_MS + 1)
    assert cleaning.is_needed(), "withdrawn again"
    give_back(store, "a")
    assert not cleaning.is_needed(), "back before anybody looked"


def test_a_list_made_meanwhile_is_left_alone(store):
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    withdraw(store, "a")
    store.stored.begin_cleaning()
    _, [(found, _)] = store.stored.lists_to_clean(0)
    newer = topk("u1", "c", version=2)
    put(store, [newer], slices(1, 2))
    assert store.stored.swap_lists([("u1", found, msgspec.json.encode(topk("u1", "b")))]) == [False]
    assert store.read("u1") == newer


def test_a_broker_that_is_unavailable_delays_a_pass(store):
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    withdraw(store, "a")
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
    withdraw(store, "a")
    clean(store)
    assert b'"a"' not in redis_client.get(Keys().topk("u1"))
    assert 900 < redis_client.ttl(Keys().topk("u1")) <= 1_000


def test_one_worker_cleans_at_a_time(redis_url):
    one, other = (RedisTopKStore(redis_url, list_ttl_days=1) for _ in range(2))
    put(one, [topk("u1", "a", "b")], slices(0, 1))
    withdraw(one, "a")
    assert one.stored.claim_cleaning(60)
    assert not CleanLists(other.stored, MemoryPublisher(), other.marks).step()
    assert clean(one)


def test_an_installation_cleans_its_own_lists(redis_url):
    ours = RedisLists(redis_url, installation="shop2")
    theirs = RedisLists(redis_url)
    for store in (ours, theirs):
        put(store, [topk("u1", "a", "b")], slices(0, 1))
    withdraw(ours, "a")
    assert list(clean(ours)) == ["u1"]
    assert theirs.read("u1") == topk("u1", "a", "b")


def test_marks_that_have_expired_wait_for_nothing(redis_url):
    store = RedisTopKStore(redis_url, list_ttl_days=1)
    for _ in range(2):
        store.replace_marks(all_withdrawn({"old": NOW_MS - 2 * DAY_MS, "new": NOW_MS}))
        assert store.stored.begin_cleaning() in {1, 0}
        store.stored.claim_cleaning(60)
        store.stored.end_cleaning()


def test_what_could_not_be_published_does_not_follow_a_newer_list(store):
    put(store, [topk("u1", "a", "b"), topk("u2", "a", "b")], slices(0, 1))
    withdraw(store, "a")
    publisher = MemoryPublisher()
    cleaning = CleanLists(store.stored, publisher, store.marks)
    publish = publisher.publish
    lost = []

    def unavailable(records):
        lost.extend(records)
        raise TransientError("the broker is unavailable")

    publisher.publish = unavailable
    while len(lost) < 2:
        with pytest.raises(TransientError):
            cleaning.step()
        publisher.publish = unavailable if len(lost) < 2 else publish
    put(store, [topk("u1", "b", version=2)], slices(1, 2))
    assert cleaning.is_needed()
    while cleaning.step():
        pass
    assert {record.key for record in publisher.records} == {b"u2"}


def test_what_could_not_be_published_is_published_though_another_worker_cleans(redis_url):
    store, other = (RedisLists(redis_url) for _ in range(2))
    put(store, [topk("u1", "a", "b")], slices(0, 1))
    withdraw(store, "a")
    publisher = MemoryPublisher()
    publisher.failures = 1
    cleaning = CleanLists(store.stored, publisher, store.marks)
    with pytest.raises(TransientError):
        cleaning.step()
    store._redis.delete(Keys().cleaner)
    assert other.stored.claim_cleaning(60)
    assert not cleaning.step()
    assert [record.key for record in publisher.records] == [b"u1"]
    store.stored.end_cleaning()
    assert other.stored.begin_cleaning() == 1, "only who cleans may say that it is done"


def traffic(client, work):
    """Return how many bytes Redis received and sent during some work."""
    before = client.info("stats")
    work()
    after = client.info("stats")
    return [after[name] - before[name] for name in ("total_net_input_bytes", "total_net_output_bytes")]


def test_a_pass_costs_the_same_bytes_however_many_items_are_withdrawn(redis_url, redis_client):
    store = RedisLists(redis_url)
    put(store, [topk(f"u{number}", *(f"i{item}" for item in range(20))) for number in range(1_000)], slices(0, 1))

    def received(items):
        withdraw(store, *(f"gone-{number}" for number in range(items)))
        found, _ = traffic(redis_client, lambda: clean(store))
        give_back(store, *(f"gone-{number}" for number in range(items)))
        return found

    received(100)  # the scripts are loaded
    few, many = received(100), received(10_000)
    assert many < 1.2 * few
    assert many < 100 * 1_000


def test_marks_that_are_there_cost_one_small_question(redis_url, redis_client):
    one, other = RedisLists(redis_url), RedisLists(redis_url)
    ours, theirs = (all_withdrawn({f"item-{number}": NOW_MS for number in range(5_000)}) for _ in range(2))
    one.replace_marks(ours)

    def cost(store, withdrawn):
        return traffic(redis_client, lambda: store.replace_marks(withdrawn))

    silence = max(map(max, [cost(other, theirs) for _ in range(3)]))
    assert silence < 20_000
    for withdrawn, store in ((ours, one), (theirs, other)):
        store.mark_items(withdrawn.change({"new": NOW_MS + 1}, ["item-7"]))
    assert max(cost(one, ours)) < 20_000, "both said the same"
    redis_client.zrem(Keys().withdrawn, "new")  # as a crash that lost the newest writes
    redis_client.set(Keys().withdrawn_digest, all_withdrawn({}).digest)
    other.replace_marks(theirs)
    assert redis_client.zscore(Keys().withdrawn, "new") == NOW_MS + 1
    assert max(cost(one, ours)) < 20_000


def test_a_digest_stands_for_no_marks_that_were_changed_by_somebody_who_knows_others(redis_url, redis_client):
    store = RedisLists(redis_url)
    known = all_withdrawn({"a": NOW_MS, "b": NOW_MS})
    store.replace_marks(known)
    behind = all_withdrawn({"a": NOW_MS})
    store.mark_items(behind.change({}, ["b"]))
    store.replace_marks(known)
    assert redis_client.zscore(Keys().withdrawn, "b") == NOW_MS
