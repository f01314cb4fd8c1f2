"""A slice may hold no record: where a log ends with markers of transactions, positions still move to its end."""

from __future__ import annotations

import pytest
from builders import batch, click, part
from doubles import MemoryInterestStore, MemoryPublisher
from list_doubles import CountingRanker, MemoryTopKStore

from streamrec.adapters.postgres import PostgresRetentionStore
from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore
from streamrec.contracts.topics import CLICKS, USER_INTERESTS
from streamrec.domain.interest import FoldRules
from streamrec.service.batch import Slice, TopicPartition
from streamrec.service.fold_interests import FoldInterests
from streamrec.service.make_lists import ListMaker
from streamrec.service.record_retention import RecordRetention
from streamrec.service.refresh_topk import RefreshTopK


def gap(topic, start, end):
    return Slice(TopicPartition(topic, 0), start, end)


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_interests_move_over_a_gap(kind, request):
    store = MemoryInterestStore()
    if kind == "redis":
        store = RedisInterestStore(request.getfixturevalue("redis_url"), state_ttl_days=1)
    publisher, source = MemoryPublisher(), TopicPartition(CLICKS, 0)
    fold = FoldInterests(store, publisher, FoldRules(50))

    assert fold.handle(batch(gap(CLICKS, 0, 4))) == store.positions([source]) == {source: 4}
    assert not publisher.records
    assert fold.handle(batch(part(CLICKS, [click("u1", "a")], start=4))) == {source: 5}
    assert fold.handle(batch(gap(CLICKS, 5, 7))) == store.positions([source]) == {source: 7}
    progress = store.progress([source])[source]
    assert (progress.applied, progress.duplicates, progress.dead_lettered) == (1, 0, 0)


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_lists_move_over_a_gap(kind, request):
    store = MemoryTopKStore()
    if kind == "redis":
        store = RedisTopKStore(request.getfixturevalue("redis_url"), list_ttl_days=1)
    publisher, source = MemoryPublisher(), TopicPartition(USER_INTERESTS, 0)
    maker = ListMaker(CountingRanker(), top_k=10, arm_of=lambda _: "personal", now_ms=lambda: 0)
    refresh = RefreshTopK(store, publisher, maker)

    assert refresh.handle(batch(gap(USER_INTERESTS, 0, 4))) == store.positions([source]) == {source: 4}
    assert not publisher.records


def test_retention_moves_over_a_gap(postgres_url):
    store, source = PostgresRetentionStore(postgres_url), TopicPartition(CLICKS, 0)
    record = RecordRetention(store, MemoryPublisher(), arm_of=lambda _: "personal", follow_window_minutes=30)

    assert record.handle(batch(gap(CLICKS, 0, 4))) == store.positions([source]) == {source: 4}
