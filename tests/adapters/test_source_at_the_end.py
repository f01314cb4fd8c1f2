"""Positions move to the end of a log, also where it ends with markers of transactions and aborted records."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from waiting import DEADLINE_S

from streamrec.adapters.kafka import BatchSource
from streamrec.adapters.kafka.lag import committed_offsets, end_offsets, open_observer
from streamrec.service.batch import TopicPartition


@pytest.fixture
def partitions():
    return 1


@pytest.fixture
def transactions(kafka_bootstrap):
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": uuid4().hex})
    producer.init_transactions(DEADLINE_S)
    return producer


class Follower:
    """Reads a topic as a worker does, and keeps what a store would keep."""

    def __init__(self, kafka, topic):
        self.group, self.store, self.values, self.slices = uuid4().hex, {}, [], []
        self.source = BatchSource(
            kafka=kafka,
            group=self.group,
            topics=[topic],
            positions=lambda sources: {source: self.store[source] for source in sources if source in self.store},
        )

    def follow(self, until):
        until_s = time.monotonic() + DEADLINE_S
        while not until():
            assert time.monotonic() < until_s, (self.store, self.slices)
            batch = self.source.poll(0.1)
            if batch is not None:
                for part in batch.slices:
                    assert part.start == self.store.get(part.source, 0), "a slice follows on the one before it"
                    assert part.next > part.start
                    self.store[part.source] = part.next
                    self.values += [record.value for record in part.records]
                    self.slices.append((part.start, part.next, len(part.records)))
                self.source.settle({part.source: part.next for part in batch.slices})


@pytest.fixture
def follower(kafka, topic):
    made = Follower(kafka, topic)
    yield made
    made.source.close()


def write(producer, topic, *values):
    for value in values:
        producer.produce(topic, value)
    producer.flush(DEADLINE_S)


def test_positions_move_over_markers_and_aborted_records_to_the_end(kafka, topic, transactions, follower):
    place = TopicPartition(topic, 0)
    transactions.begin_transaction()
    write(transactions, topic, b"aborted")
    transactions.abort_transaction(DEADLINE_S)
    follower.follow(lambda: follower.store.get(place) == 2)
    assert follower.values == []

    transactions.begin_transaction()
    write(transactions, topic, b"a", b"b")
    transactions.commit_transaction(DEADLINE_S)
    follower.follow(lambda: follower.store.get(place) == 5)
    assert follower.values == [b"a", b"b"]

    observer = open_observer(kafka, follower.group)
    assert end_offsets(observer, [place]) == {place: 5}
    follower.follow(lambda: committed_offsets(observer, [place]) == {place: 5})
    observer.close()


def test_nothing_is_told_of_an_end_where_the_last_record_was_read(kafka_bootstrap, topic, follower):
    producer, place = Producer({"bootstrap.servers": kafka_bootstrap}), TopicPartition(topic, 0)
    for number in range(5):
        write(producer, topic, b"%d" % number)
        follower.follow(lambda number=number: follower.store.get(place) == number + 1)
    assert follower.slices == [(number, number + 1, 1) for number in range(5)]

    begun_s = time.monotonic()
    assert follower.source.poll(0.5) is None
    assert time.monotonic() - begun_s >= 0.4, "the end of a log ends no wait"


def test_an_open_transaction_is_waited_for(topic, transactions, follower, kafka_bootstrap):
    place = TopicPartition(topic, 0)
    write(Producer({"bootstrap.servers": kafka_bootstrap}), topic, b"before")
    transactions.begin_transaction()
    write(transactions, topic, b"inside")
    write(Producer({"bootstrap.servers": kafka_bootstrap}), topic, b"behind")
    follower.follow(lambda: follower.store.get(place) == 1)
    assert follower.source.poll(0.5) is None
    assert follower.values == [b"before"]

    transactions.commit_transaction(DEADLINE_S)
    follower.follow(lambda: follower.store.get(place) == 4)
    assert follower.values == [b"before", b"inside", b"behind"]
