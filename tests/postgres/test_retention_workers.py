"""Two workers that share users, crashes before the commit, redeliveries: every row ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import psycopg2
import pytest
from builders import NOW_MS, batch, part
from doubles import MemoryPublisher
from waiting import DEADLINE_S

from streamrec.adapters.postgres import PostgresRetentionStore
from streamrec.adapters.postgres.store import PostgresTransaction
from streamrec.domain.interest import DAY_MS
from streamrec.errors import TransientError
from streamrec.service.record_retention import RecordRetention

START_MS = NOW_MS // DAY_MS * DAY_MS - 100 * DAY_MS
TABLES = ("position", "retention_user", "activity", "daily_count", "followed_list")


def recorder(url):
    return RecordRetention(
        PostgresRetentionStore(url),
        MemoryPublisher(),
        arm_of=lambda user: "control" if user < "u3" else "personal",
        follow_window_minutes=30,
    )


def rows(url):
    """Return every row of every table; of a user's memory all but the order of partitions and of hashes."""
    found = {}
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table}")
            found[table] = sorted(tuple(map(_plain, row)) for row in cursor.fetchall())
    connection.close()
    return found


def _plain(value):
    if not isinstance(value, memoryview):
        return str(value)
    _format, recent_ids, lists = msgspec.msgpack.decode(bytes(value))
    return repr((sorted(recent_ids), [(list_id, made_ms, sorted(items)) for list_id, made_ms, items in lists]))


def empty(url):
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES)}")
    connection.close()


def is_waiting_for_a_lock(url):
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        (waiting,) = cursor.fetchone()
    connection.close()
    return waiting > 0


def event(user_id, day, **fields):
    fields = {"user_id": user_id, "item_id": "a", "event_time_ms": START_MS + day * DAY_MS, **fields}
    return json.dumps(fields).encode()


def test_a_worker_waits_for_another_that_writes_the_same_user(postgres_url, monkeypatch):
    record = recorder(postgres_url)
    record.handle(batch(part("clicks", [event("u1", 50, event_id="e0")])))
    write = PostgresTransaction.write
    at_write = threading.Event()
    goes_on = threading.Event()

    def wait_before_the_first_write(transaction, *changes):
        if not at_write.is_set():
            at_write.set()
            assert goes_on.wait(DEADLINE_S)
        write(transaction, *changes)

    monkeypatch.setattr(PostgresTransaction, "write", wait_before_the_first_write)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(record.handle, batch(part("clicks", [event("u1", 20, event_id="e1")], start=1)))
        assert at_write.wait(DEADLINE_S)
        other = batch(part("clicks", [event("u1", 80, event_id="e2")], partition=1))
        second = pool.submit(recorder(postgres_url).handle, other)
        end_s = time.monotonic() + DEADLINE_S
        while not is_waiting_for_a_lock(postgres_url) and not second.done():
            assert time.monotonic() < end_s
        goes_on.set()
        first.result()
        second.result()
    together = rows(postgres_url)

    empty(postgres_url)
    monkeypatch.undo()
    for offset, (day, number) in enumerate([(50, 0), (20, 1)]):
        record.handle(batch(part("clicks", [event("u1", day, event_id=f"e{number}")], start=offset)))
    record.handle(other)
    assert together == rows(postgres_url)


def test_workers_at_once_end_as_one_after_the_other(postgres_url):
    rng = random.Random(3)
    logs = [
        [event(f"u{rng.randrange(6)}", rng.randrange(60), event_id=f"e{rng.randrange(900)}") for _ in range(600)]
        for _ in range(2)
    ]

    def work(partition):
        record = recorder(postgres_url)
        for start in range(0, 600, 40):
            record.handle(batch(part("clicks", logs[partition][start : start + 40], start=start, partition=partition)))

    for partition in range(2):
        work(partition)
    expected = rows(postgres_url)
    empty(postgres_url)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert rows(postgres_url) == expected


def batches_of_all_topics():
    """Return batches in which lists are made, shown and followed, and lists and events come twice."""
    rng = random.Random(5)
    at, work = {}, []

    def slices(values):
        for topic, records in values.items():
            start = at.get(topic, 0)
            at[topic] = start + len(records)
            yield part(topic, records, start=start)

    for number in range(40):
        values = {topic: [] for topic in ("clicks", "purchases", "recommendations", "impressions")}
        for index in range(30):
            user, day = f"u{rng.randrange(6)}", number + index / 1_000
            named = {"list_id": f"l{rng.randrange(20)}"} if rng.random() < 0.2 else {}
            about = event(user, 0, item_id=f"i{rng.randrange(8)}", event_id=f"e{rng.randrange(600)}", **named)
            about = msgspec.json.decode(about) | {"event_time_ms": int(START_MS + day * DAY_MS)}
            topic = rng.choice(["clicks", "clicks", "purchases", "recommendations", "impressions"])
            if topic == "recommendations":
                about = about | {"list_id": f"l{rng.randrange(300)}", "items": [{"item_id": f"i{n}"} for n in range(5)]}
            if topic == "impressions":
                about = about | {"list_id": f"l{number}"}
            values[topic].append(msgspec.json.encode(about))
        work.append(batch(*slices({topic: records for topic, records in values.items() if records})))
    return work


def test_crashes_before_the_commit_and_redeliveries_change_no_row(postgres_url, monkeypatch):
    work = batches_of_all_topics()
    record = recorder(postgres_url)
    for each in work:
        record.handle(each)
    expected = rows(postgres_url)
    assert all(expected[table] for table in TABLES)

    empty(postgres_url)
    rng = random.Random(6)
    write = PostgresTransaction.write

    def write_and_crash(transaction, *changes):
        write(transaction, *changes)
        if rng.random() < 0.4:
            raise TransientError("the commit did not go through")

    monkeypatch.setattr(PostgresTransaction, "write", write_and_crash)
    crashes = 0
    for number, each in enumerate(work):
        while True:
            try:
                moved = record.handle(each)
            except TransientError:
                crashes += 1
                record = recorder(postgres_url)
            else:
                break
        assert moved == {source.source: source.next for source in each.slices}
        record.handle(work[rng.randrange(number + 1)])
    assert crashes
    assert rows(postgres_url) == expected


def test_a_store_that_was_emptied_sends_the_reader_back(postgres_url):
    foreign = batch(part("clicks", [event("u1", 2)], start=5))
    assert recorder(postgres_url).handle(foreign) == {foreign.slices[0].source: 0}
    assert not any(rows(postgres_url)[table] for table in TABLES[1:])


@pytest.mark.parametrize("start", [0, 2])
def test_a_slice_from_elsewhere_is_left_alone_with_all_of_its_batch(postgres_url, start):
    record = recorder(postgres_url)
    record.handle(batch(part("clicks", [event("u1", 1)])))
    before = rows(postgres_url)
    foreign = batch(part("clicks", [event("u1", 2)], start=start), part("purchases", [event("u2", 2)]))
    moved = record.handle(foreign)

    assert moved == {foreign.slices[0].source: 1, foreign.slices[1].source: 0}
    after = rows(postgres_url)
    assert {table: after[table] for table in TABLES[1:]} == {table: before[table] for table in TABLES[1:]}
