"""Each refused record of any topic becomes one dead letter, and is counted; withdrawals are obeyed all the same."""

from __future__ import annotations

import json

import pytest
from builders import NOW_MS, batch, click, part
from doubles import MemoryInterestStore, MemoryPublisher, MemoryRetentionStore
from list_doubles import CountingRanker, MemoryTopKStore

from streamrec.domain.interest import FoldRules
from streamrec.errors import TransientError
from streamrec.service.batch import Batch, Fault, Record, Slice, TopicPartition
from streamrec.service.fold_interests import FoldInterests
from streamrec.service.item_records import ItemChange, KnownItems, read_item_record
from streamrec.service.make_lists import ListMaker
from streamrec.service.record_retention import RecordRetention
from streamrec.service.refresh_topk import RefreshTopK
from streamrec.service.tally import Tally

ITEMS, IMPRESSIONS = TopicPartition("items", 0), TopicPartition("impressions", 0)


@pytest.fixture
def publisher():
    return MemoryPublisher()


@pytest.fixture
def store():
    return MemoryRetentionStore()


@pytest.fixture
def record(store, publisher):
    return RecordRetention(store, publisher, arm_of=lambda _: "personal", follow_window_minutes=30)


def items(*pairs, start=0):
    records = [Record(start + n, NOW_MS, key, value, {}) for n, (key, value) in enumerate(pairs)]
    return Slice(ITEMS, start, start + len(records), records)


def item(item_id="toy", **fields):
    return json.dumps({"item_id": item_id, **fields}).encode()


def reasons(publisher, topic):
    return [(letter.headers["dlq.reason"], letter.headers["dlq.offset"]) for letter in publisher.of(topic)]


def test_bad_items_become_dead_letters_once_whoever_else_reads_them(record, publisher, store):
    work = batch(items((b"toy", item()), (b"toy", b"{"), (b"prefix-toy", item()), (b"toy", None), (b"\xff", None)))
    assert record.handle(work) == {ITEMS: 5}
    assert record.handle(work) == {ITEMS: 5}

    assert reasons(publisher, "items.dlq") == [(b"bad-json", b"1"), (b"bad-key", b"2"), (b"bad-key", b"4")]
    assert store.positions([ITEMS]) == {ITEMS: 5}, "a restarted worker does not write them again"


def test_bad_impressions_become_dead_letters_and_good_ones_count(record, publisher):
    good = {"user_id": "u1", "list_id": "l1", "event_time_ms": NOW_MS, "item_ids": ["a", ""]}
    record.handle(batch(part("impressions", [json.dumps(good).encode(), b"[]", None], key=b"u1")))

    assert reasons(publisher, "impressions.dlq") == [(b"wrong-type", b"1"), (b"null-value", b"2")]
    assert publisher.of("impressions.dlq")[0].headers["dlq.stage"] == b"retention"
    assert record.tally.outcomes == {"applied": 1, "dead-lettered": 2, "refused": 0}
    assert record.tally.refused == {("impressions", "wrong-type"): 1, ("impressions", "null-value"): 1}
    assert record.tally.dropped == {("impressions", "item_ids"): 1}


def test_bad_events_and_lists_have_no_dead_letter_of_retention(record, publisher):
    record.handle(batch(part("clicks", [b"{"]), part("recommendations", [b"{"])))

    assert publisher.records == []
    assert record.tally.outcomes["refused"] == 2


def test_nothing_is_stored_before_the_broker_has_the_dead_letters(record, publisher, store):
    publisher.failures = 1
    work = batch(items((b"toy", b"{")))
    with pytest.raises(TransientError):
        record.handle(work)
    assert store.positions([ITEMS]) == {}
    assert record.handle(work) == {ITEMS: 1}


def test_dead_letters_are_not_sent_again_while_only_the_store_is_away(record, publisher, store):
    store.failures = 3
    work = batch(items((b"toy", b"{")))
    for _ in range(3):
        with pytest.raises(TransientError):
            record.handle(work)
    record.handle(work)
    record.handle(batch(items((b"toy", b"["), start=1)))

    assert reasons(publisher, "items.dlq") == [(b"bad-json", b"0"), (b"bad-json", b"1")]


class Bench:
    """A recall worker whose lists hold every item that was clicked."""

    def __init__(self):
        self.store, self.ranker = MemoryTopKStore(), CountingRanker()
        maker = ListMaker(self.ranker, top_k=5, arm_of=lambda _: "personal", now_ms=lambda: NOW_MS)
        self.refresh = RefreshTopK(self.store, MemoryPublisher(), maker)

    def learn(self, key, value):
        self.refresh.learn(batch(items((key, value))))

    @property
    def hidden(self):
        return self.ranker.hidden


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"toy", item(available="false")),
        (b"toy", item(available=None)),
        (b"toy", item(available=False, price=3, currency="usd")),
        (b"toy", item(available=False, price="?", title=7, category={})),
        (b"toy", b'{"available": false}'),
        (b"toy", item(available="perhaps")),
        (b"prefix-toy", item(available=0)),
        (b"\xff", item(available="no")),
        (b'"toy"', None),
        (b'{"id": "toy"}', None),
    ],
)
def test_a_withdrawal_with_a_bad_field_or_key_withdraws(key, value):
    bench = Bench()
    bench.refresh.mark_all()
    bench.learn(b"toy", item())
    assert "toy" not in bench.hidden
    bench.learn(key, value)
    assert "toy" in bench.hidden
    assert "toy" in bench.store._withdrawn


def test_put_and_delete_of_one_key_mean_one_item():
    bench = Bench()
    bench.refresh.mark_all()
    for key in (b"toy", b'"toy"', b'{"item_id":"toy"}'):
        bench.learn(key, item())
        assert "toy" not in bench.store._withdrawn
        bench.learn(key, None)
        assert "toy" in bench.store._withdrawn
    assert bench.refresh.learned.outcomes == {}


def test_a_deletion_of_what_never_was_an_item_is_counted_once_all_was_read():
    bench = Bench()
    bench.learn(b"prefix-toy", None)
    assert bench.refresh.learned == Tally(), "a compacted log may have kept the deletion alone"
    bench.refresh.mark_all()
    bench.learn(b"prefix-toy", None)
    assert bench.refresh.learned.outcomes == {"unknown-deletion": 1}
    bench.learn(b"\xff", None)
    assert bench.refresh.learned.refused == {("items", "bad-key"): 1}


def test_a_known_item_is_known():
    known = KnownItems()
    for number in range(10_000):
        known.add(f"i{number}")
    assert all(f"i{number}" in known for number in range(10_000))
    assert sum(f"other{number}" in known for number in range(10_000)) < 100


def lines_of_an_order():
    return [click("u1", name, event_id="order-1") for name in "abc"]


def test_lines_of_an_order_with_one_event_id_do_not_vanish(publisher):
    store = MemoryInterestStore()
    FoldInterests(store, publisher, FoldRules(50)).handle(
        batch(part("purchases", [*lines_of_an_order(), lines_of_an_order()[0]]))
    )
    progress = store.progress([TopicPartition("purchases", 0)])[TopicPartition("purchases", 0)]

    assert (progress.applied, progress.duplicates, progress.dead_lettered) == (1, 1, 2)
    assert reasons(publisher, "purchases.dlq") == [(b"id-reused", b"1"), (b"id-reused", b"2")]


def test_retention_counts_what_interests_apply_of_an_id_used_twice(record, store):
    record.handle(batch(part("purchases", lines_of_an_order())))
    (changes,) = store.changes
    assert [counts.purchases for counts in changes.counts.values()] == [1]


def test_mostly_reused_ids_pause_the_worker(publisher):
    fold = FoldInterests(MemoryInterestStore(), publisher, FoldRules(50))
    values = [click("u1", f"i{number}", event_id="session") for number in range(1_000)]
    with pytest.raises(Exception, match="999 of the last 1000 records were refused, the last one because: id-reused"):
        fold.handle(Batch([part("clicks", values)]))
    assert publisher.records == []


def test_dropped_fields_are_counted_by_topic_and_name(publisher):
    fold = FoldInterests(MemoryInterestStore(), publisher, FoldRules(50))
    fold.handle(
        batch(part("clicks", [click("u1", "a", context={"page": "x" * 300}), b"{", click("u1", "b", position=-1)]))
    )

    assert fold.tally.dropped == {("clicks", "context.page"): 1, ("clicks", "position"): 1}
    assert fold.tally.outcomes == {"applied": 2, "dead-lettered": 1}


def test_items_whose_headers_cannot_be_read_are_refused_by_all_and_withdrawn_where_they_say_so(record, publisher):
    fault = Fault("bad-headers", "the name of one is not UTF-8")
    put, withdrawal, deletion = (
        Record(n, NOW_MS, b"toy", value, {}, fault) for n, value in enumerate((item(), item(available=False), None))
    )
    tally = Tally()

    assert read_item_record(put, tally) == ItemChange()
    assert read_item_record(withdrawal, tally).gone == read_item_record(deletion, tally).gone == ("toy",)
    assert tally.refused == {("items", "bad-headers"): 2}
    record.handle(Batch([Slice(ITEMS, 0, 3, [put, withdrawal, deletion])]))
    assert [reason for reason, _ in reasons(publisher, "items.dlq")] == [b"bad-headers"] * 3
