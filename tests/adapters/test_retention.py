"""Retention on a real PostgreSQL: who came back, which lists were followed, whatever the order and however often."""

from __future__ import annotations

import json
import os
import random
import threading
from collections import defaultdict
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from builders import batch, part
from doubles import MemoryPublisher
from sqlalchemy import create_engine, text

from streamrec.adapters.postgres import PostgresRetentionStore, RetentionReader
from streamrec.adapters.postgres.migrate import migrate
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.domain.retention import REACH_DAYS, RETENTION_DAYS
from streamrec.errors import TransientError
from streamrec.service.batch import Batch, Record, Slice, TopicPartition
from streamrec.service.record_retention import RecordRetention

DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS
CLICK_TYPES = {"view", "click", "favourite", "add_to_cart", "rating"}


@pytest.fixture
def store(postgres_url):
    return PostgresRetentionStore(postgres_url)


@pytest.fixture
def record(store):
    return RecordRetention(store, MemoryPublisher(), arm_of=arm_of, follow_window_minutes=30)


@pytest.fixture
def report(postgres_url):
    return RetentionReader(postgres_url).report


def arm_of(user_id):
    return "control" if user_id.startswith("c") else "personal"


def event(user_id, item_id="i1", at_ms=START_MS, **fields):
    return json.dumps({"user_id": user_id, "item_id": item_id, "event_time_ms": at_ms, **fields}).encode()


def topk(user_id, list_id, *item_ids, at_ms=START_MS):
    return msgspec.json.encode(
        TopKList(
            state_version=1,
            list_id=list_id,
            user_id=user_id,
            items=ListedItems.of([ListItem(item_id, 1.0, Reason("model")) for item_id in item_ids]),
            model_version="m",
            arm=arm_of(user_id),
            event_time_ms=at_ms,
            produced_at_ms=at_ms,
            made_at_ms=at_ms,
        )
    )


def test_cohorts_come_back_on_day_one_and_seven(record, report):
    days = {"u1": [0, 1, 7], "u2": [0, 1], "u3": [0, 8], "u4": [1]}
    values = [event(user, at_ms=START_MS + day * DAY_MS + 5) for user, active in days.items() for day in active]
    record.handle(batch(part("clicks", values)))

    first, second, *_, last = report().days
    assert (first.day, first.active_users, first.new_users) == ("2024-10-04", 3, 3)
    assert (first.day_1, first.day_7, first.day_30) == (pytest.approx(2 / 3), pytest.approx(1 / 3), None)
    assert (first.rolling_1, first.rolling_7) == (1.0, pytest.approx(2 / 3))
    assert (second.new_users, second.day_1, second.day_7) == (1, 0.0, None)  # its day 7 is the newest, and not over
    assert (second.active_users, second.weekly_active_users, second.monthly_active_users) == (3, 4, 4)
    assert second.stickiness == pytest.approx(3 / 4)
    assert (last.day, last.weekly_active_users) == ("2024-10-12", 2)


def test_feedback_is_activity_and_neither_a_click_nor_a_purchase(record, report):
    record.handle(batch(part("clicks", [event("u1")])))
    record.handle(batch(part("feedback", [event("u1", at_ms=START_MS + DAY_MS, type="like"), b"{broken"])))
    record.handle(batch(part("clicks", [event("u2", at_ms=START_MS + 2 * DAY_MS)], start=1)))

    first, second, _ = report().days
    assert (first.day_1, second.active_users, second.new_users) == (1.0, 1, 0)
    (arm,) = report().arms
    assert (arm.users, arm.clicks, arm.purchases) == (2, 2, 0)


def test_a_list_is_followed_by_its_name_or_by_an_item_in_time(record, report):
    record.handle(batch(part("recommendations", [topk("u1", "l1", "a", "b")])))
    in_time = START_MS + 29 * 60_000
    record.handle(
        batch(
            part(
                "clicks",
                [
                    event("u1", "a", in_time),
                    event("u1", "elsewhere", in_time),
                    event("u1", "b", START_MS + 31 * 60_000),
                    event("u1", "z", in_time, list_id="l0"),
                    event("u1", "a", START_MS),
                ],
            ),
            part("purchases", [event("u1", "b", in_time)]),
        )
    )
    (arm,) = report().arms
    assert (arm.lists, arm.clicks, arm.followed_clicks, arm.purchases, arm.followed_purchases) == (1, 5, 2, 1, 1)
    assert arm.click_follow_rate == pytest.approx(2 / 5)


def test_an_event_follows_the_newest_list_made_before_it(record, report):
    lists = [topk("u1", "l1", "a"), topk("u1", "l2", "b", at_ms=START_MS + 100)]
    record.handle(batch(part("recommendations", lists)))
    record.handle(batch(part("clicks", [event("u1", "a", START_MS + 50), event("u1", "a", START_MS + 150)])))
    assert report().arms[0].followed_clicks == 1


def test_arms_stand_side_by_side(record, report):
    record.handle(batch(part("clicks", [event("u1"), event("c1"), event("c2")])))
    assert {arm.arm: (arm.users, arm.clicks) for arm in report().arms} == {"control": (2, 2), "personal": (1, 1)}
    assert [day.new_users for day in report("control").days] == [2]


def test_impressions_are_counted(record, report):
    shown = json.dumps({"user_id": "u1", "list_id": "l1", "event_time_ms": START_MS}).encode()
    record.handle(batch(part("impressions", [shown, b"{broken"])))
    assert report().arms[0].impressions == 1


def test_a_list_that_comes_again_is_counted_once(record, report):
    record.handle(batch(part("recommendations", [topk("u1", "l1", "a"), topk("u1", "l1", "a")])))
    record.handle(batch(part("recommendations", [topk("u1", "l1", "a")], start=2)))
    assert report().arms[0].lists == 1


def test_bad_records_are_skipped(record, store, report):
    positions = record.handle(batch(part("clicks", [b"{", None, event("u1")]), part("recommendations", [b"{"])))
    assert positions == store.positions([TopicPartition("clicks", 0), TopicPartition("recommendations", 0)])
    assert report().arms[0].clicks == 1


def test_an_error_leaves_nothing_behind(record, store, report, monkeypatch):
    monkeypatch.setattr(
        "streamrec.adapters.postgres.store.PostgresTransaction.write", lambda *_: (_ for _ in ()).throw(KeyError)
    )
    with pytest.raises(KeyError):
        record.handle(batch(part("clicks", [event("u1")])))
    assert store.positions([TopicPartition("clicks", 0)]) == {}
    assert report().days == []


def test_an_unavailable_server_is_transient():
    store = PostgresRetentionStore("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(TransientError, match="PostgreSQL"):
        store.positions([TopicPartition("clicks", 0)])
    with pytest.raises(TransientError, match="PostgreSQL"):
        migrate("postgresql://nobody@127.0.0.1:1/none")


def test_migrating_twice_changes_nothing(postgres_url):
    migrate(postgres_url)


def stream(seed):
    rng = random.Random(seed)
    logs = {("clicks", 0): [], ("clicks", 1): [], ("purchases", 0): []}
    for n in range(400):
        user = rng.choice(["u1", "u2", "u3", "c1", "c2"])
        source = ("purchases", 0) if rng.random() < 0.2 else ("clicks", int(user[1]) % 2)
        value = event(user, f"i{n}", START_MS + rng.randrange(40) * DAY_MS, event_id=f"e{n}")
        logs[source] += [value, value] if rng.random() < 0.1 else [value]
    return logs


def in_batches(logs, rng):
    """Cut logs into batches of any size, interleaved in any way."""
    at = dict.fromkeys(logs, 0)
    while any(at[source] < len(log) for source, log in logs.items()):
        slices = []
        for source, log in logs.items():
            size = min(rng.randrange(60), len(log) - at[source])
            if size:
                topic, partition = source
                slices.append(part(topic, log[at[source] : at[source] + size], start=at[source], partition=partition))
                at[source] += size
        if slices:
            yield batch(*slices)


def test_any_batches_and_redeliveries_end_the_same(postgres_url, record, report):
    logs = stream(seed=1)
    for topic, partition in logs:
        record.handle(batch(part(topic, logs[topic, partition], partition=partition)))
    expected = report()

    other = RecordRetention(
        PostgresRetentionStore(postgres_url), MemoryPublisher(), arm_of=arm_of, follow_window_minutes=30
    )
    empty(postgres_url)
    rng = random.Random(2)
    for work in in_batches(logs, rng):
        other.handle(work)
        if rng.random() < 0.5:
            other.handle(work)
    assert report() == expected


def empty(postgres_url):
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg2:"))
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE position, retention_user, activity, daily_count, followed_list"))
    engine.dispose()


def test_two_workers_share_users_and_count_each_event_once(postgres_url, report):
    def work(partition):
        record = RecordRetention(
            PostgresRetentionStore(postgres_url), MemoryPublisher(), arm_of=arm_of, follow_window_minutes=30
        )
        for start in range(0, 300, 30):
            values = [event(f"u{(start + n) % 7}", at_ms=START_MS + n * DAY_MS) for n in range(30)]
            record.handle(batch(part("clicks", values, start=start, partition=partition)))

    threads = [threading.Thread(target=work, args=(partition,)) for partition in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert report().arms[0].clicks == 600
    assert report().days[0].new_users + report().days[1].new_users <= 7


@pytest.fixture(scope="session")
def taobao():
    folder = os.environ.get("STREAMREC_DATA")
    if not folder:
        pytest.skip("STREAMREC_DATA does not name a folder with real streams")
    table = pq.read_table(Path(folder) / "taobao_users" / "events.parquet")
    return [row for row in table.to_pylist() if row["event_type"] in CLICK_TYPES | {"purchase"}]


def test_the_days_of_a_real_stream_equal_a_direct_query(record, report, taobao):
    slices = {topic: Slice(TopicPartition(topic, 0), 0, 0) for topic in ("clicks", "purchases")}
    for row in taobao:
        where = slices["purchases" if row["event_type"] == "purchase" else "clicks"]
        value = event(str(row["user_id"]), str(row["item_id"]), row["timestamp"])
        where.records.append(Record(where.next, row["timestamp"], None, value, {}))
        where.next += 1
    for each in slices.values():
        for start in range(0, each.next, 2_000):
            end = min(start + 2_000, each.next)
            record.handle(Batch([Slice(each.source, start, end, each.records[start:end])]))

    active = defaultdict(set)
    for row in taobao:
        active[row["timestamp"] // DAY_MS].add(row["user_id"])
    first_day = {user: min(day for day in active if user in active[day]) for users in active.values() for user in users}
    found = report().days
    assert [day.active_users for day in found] == [len(active[day]) for day in sorted(active)]
    for day, reported in zip(sorted(active), found, strict=True):
        cohort = {user for user, first in first_day.items() if first == day}
        assert reported.new_users == len(cohort)
        for n in RETENTION_DAYS:
            is_over = any(0 < later - (day + n) <= REACH_DAYS for later in active)
            expected = len(cohort & active.get(day + n, set())) / len(cohort) if cohort and is_over else None
            assert getattr(reported, f"day_{n}") == (None if expected is None else pytest.approx(expected))
