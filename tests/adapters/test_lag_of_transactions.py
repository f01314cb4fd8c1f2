"""Offsets are positions in a log, not counts: lag where transactions and deletions leave offsets without records."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from waiting import DEADLINE_S

from streamrec.adapters.kafka import members, offsets
from streamrec.adapters.kafka.lag import LagReader, end_offsets, open_observer, read_lag, when_loaded
from streamrec.service.batch import TopicPartition


@pytest.fixture
def partitions():
    return 1


@pytest.fixture
def transactions(kafka, topic):
    return Transactions(kafka, topic)


class Transactions:
    """Writes to a topic in transactions."""

    def __init__(self, kafka, topic):
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid4().hex})
        self.producer.init_transactions(DEADLINE_S)
        self.kafka, self.topic = kafka, topic

    def begin(self, count, **options):
        self.producer.begin_transaction()
        write(self.producer, self.topic, count, **options)

    def end(self, *, commit=True):
        (self.producer.commit_transaction if commit else self.producer.abort_transaction)(DEADLINE_S)
        # the coordinator answers before it has written the markers
        ends = [
            Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": "none", "isolation.level": level})
            for level in ("read_committed", "read_uncommitted")
        ]
        where, until_s = KafkaPartition(self.topic, 0), time.monotonic() + DEADLINE_S
        while len({end.get_watermark_offsets(where)[1] for end in ends}) > 1:
            assert time.monotonic() < until_s, "the transaction is still open"
        for end in ends:
            end.close()


@pytest.fixture
def producer(kafka_bootstrap):
    return Producer({"bootstrap.servers": kafka_bootstrap})


@pytest.fixture
def group(kafka_bootstrap, topic):
    """Return a group that stands at the beginning of the topic, and how it moves."""

    class Group:
        name = uuid4().hex

        def commit(self, offset):
            consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": self.name})
            consumer.commit(offsets=[KafkaPartition(topic, 0, offset)], asynchronous=False)
            consumer.close()

    return Group()


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch):
    monkeypatch.setattr(offsets, "TOPICS_AGE_S", 0.0)
    monkeypatch.setattr(members, "MEMBERS_AGE_S", 0.0)


@pytest.fixture
def look(kafka, topic, group):
    """Return what reads the lag of the group with one reader, as the monitor does."""
    with asyncio.Runner() as runner:

        async def opened():
            return LagReader(kafka, {group.name: [topic]})

        reader = runner.run(opened())
        read = when_loaded(reader.read)
        runner.run(read())
        yield lambda: runner.run(read())
        runner.run(reader.close())


def write(producer, topic, count, *, age_s=0.0):
    for _ in range(count):
        producer.produce(topic, b"v", timestamp=int((time.time() - age_s) * 1_000))
    producer.flush(DEADLINE_S)


def figures(lag, group):
    (part,) = lag.of(group.name)
    return part.lag, part.behind_s


def test_a_commit_marker_behind_the_position_is_no_lag(look, kafka, topic, group, transactions):
    transactions.begin(3)
    transactions.end()
    assert figures(look(), group)[0] == 4

    group.commit(3)
    assert figures(look(), group) == (0, 0.0)
    assert [(part.committed, part.end, part.lag) for part in read_lag(kafka, {group.name: [topic]})] == [(3, 4, 0)]


def test_aborted_records_are_no_lag(look, group, transactions):
    for _ in range(3):
        transactions.begin(5)
        transactions.end(commit=False)

    assert figures(look(), group) == (0, 0.0)


def test_what_comes_after_a_gap_is_a_lag_as_old_as_its_first_record(look, topic, group, transactions, producer):
    transactions.begin(3)
    transactions.end()
    group.commit(3)
    assert figures(look(), group) == (0, 0.0)

    write(producer, topic, 2, age_s=4_000)
    records, behind_s = figures(look(), group)
    assert (records, behind_s) == (2, pytest.approx(4_000, abs=DEADLINE_S))

    group.commit(6)
    assert figures(look(), group) == (0, 0.0)
    group.commit(1)
    assert figures(look(), group)[0] == 5


def test_an_open_transaction_is_no_lag_and_is_named(look, topic, group, transactions, producer):
    write(producer, topic, 2)
    group.commit(2)
    assert [held for held in look().held_back() if held.topic == topic] == []

    transactions.begin(3, age_s=5_000)
    write(producer, topic, 4)
    lag = look()
    assert figures(lag, group) == (0, 0.0)
    (held,) = [held for held in lag.held_back() if held.topic == topic]
    assert (held.partitions, held.records) == (1, 7)
    assert held.held_s == pytest.approx(5_000, abs=DEADLINE_S)

    transactions.end()
    lag = look()
    assert figures(lag, group)[0] == 8
    assert [held for held in lag.held_back() if held.topic == topic] == []


def test_counts_of_what_is_left_end_at_the_stable_offset(kafka, topic, transactions, producer):
    write(producer, topic, 2)
    transactions.begin(3)
    observer, source = open_observer(kafka), TopicPartition(topic, 0)

    assert end_offsets(observer, [source]) == {source: 2}
    transactions.end(commit=False)
    assert end_offsets(observer, [source]) == {source: 6}
    observer.close()
