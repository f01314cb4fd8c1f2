"""Lag that is read again and again, on a real broker: what `lag seconds` says in every situation."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from uuid import uuid4

import numpy as np
import pytest
import tenacity
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from kafka_topics import new_topic
from waiting import DEADLINE_S

from streamrec.adapters.kafka import KafkaPublisher, members, offsets
from streamrec.adapters.kafka.lag import LagReader
from streamrec.errors import TransientError
from streamrec.service.ports import Outgoing

when_loaded = tenacity.AsyncRetrying(
    # a broker that has just started loads its groups first
    retry=tenacity.retry_if_exception_type(TransientError),
    wait=tenacity.wait_fixed(0.1),
    stop=tenacity.stop_after_delay(DEADLINE_S),
)


@pytest.fixture
def admin(kafka_bootstrap):
    return AdminClient({"bootstrap.servers": kafka_bootstrap})


@pytest.fixture
def make_topic(kafka_bootstrap):
    """Return what makes a topic of one partition; those that are left are deleted in the end."""
    with ExitStack() as made:
        yield lambda: made.enter_context(new_topic(kafka_bootstrap))


@pytest.fixture
def produce(kafka):
    def produce(topic, count, *, age_s):
        produced_ms = int((time.time() - age_s) * 1_000)
        KafkaPublisher(kafka).publish([Outgoing(topic, b"k", b"v", {}, produced_ms)] * count)

    return produce


@pytest.fixture
def commit(kafka_bootstrap):
    def commit(group, topic, offset, *, metadata=""):
        consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": group})
        place = KafkaPartition(topic, 0, offset, metadata) if metadata else KafkaPartition(topic, 0, offset)
        consumer.commit(offsets=[place], asynchronous=False)
        consumer.close()

    return commit


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch):
    monkeypatch.setattr(offsets, "TOPICS_AGE_S", 0.0)
    monkeypatch.setattr(members, "MEMBERS_AGE_S", 0.0)


@pytest.fixture
def read(kafka):
    """Return what reads with one reader, as the monitor does; it answers the lag of a group in its only partition."""
    with asyncio.Runner() as runner:
        readers = {}

        def read(group, topics, **options):
            key = (group, *topics)
            if key not in readers:
                readers[key] = runner.run(opened(kafka, {group: topics}, options))
            return runner.run(when_loaded(readers[key].read))

        yield read
        for reader in readers.values():
            runner.run(reader.close())


async def opened(kafka, groups, options):
    return LagReader(kafka, groups, **options)


def seconds(lag, group):
    return lag.groups[group].behind_s(time.time() * 1_000).tolist()


def test_seconds_of_an_idle_producer_grow_while_its_last_record_waits(read, make_topic, produce, commit):
    topic, group = make_topic(), uuid4().hex
    produce(topic, 2, age_s=50)
    commit(group, topic, 1)
    first, second = seconds(read(group, [topic]), group), seconds(read(group, [topic]), group)

    assert 50 <= first[0] <= second[0] <= 50 + DEADLINE_S

    commit(group, topic, 2)
    assert seconds(read(group, [topic]), group) == [0.0]


def test_seconds_of_an_idle_group_are_the_age_of_the_record_that_it_left(read, make_topic, produce, commit):
    topic, group = make_topic(), uuid4().hex
    produce(topic, 1, age_s=100)
    commit(group, topic, 1)
    assert seconds(read(group, [topic]), group) == [0.0]
    produce(topic, 1, age_s=4_000)
    produce(topic, 5, age_s=0)

    assert seconds(read(group, [topic]), group) == [pytest.approx(4_000, abs=DEADLINE_S)]


def test_an_empty_topic_and_one_that_was_emptied_have_no_lag(read, make_topic, produce, admin):
    empty, emptied, group = make_topic(), make_topic(), uuid4().hex
    produce(emptied, 5, age_s=100)
    end = KafkaPartition(emptied, 0, 5)
    admin.delete_records([end])[end].result(DEADLINE_S)
    lag = read(group, [empty, emptied])

    assert seconds(lag, group) == [0.0, 0.0]
    assert lag.groups[group].lag.tolist() == [0, 0]


def test_a_new_group_is_as_far_behind_as_the_oldest_record(read, make_topic, produce):
    topic, group = make_topic(), uuid4().hex
    produce(topic, 1, age_s=7_000)
    produce(topic, 1, age_s=0)
    lag = read(group, [topic])

    assert lag.groups[group].committed.tolist() == [-1]
    assert seconds(lag, group) == [pytest.approx(7_000, abs=DEADLINE_S)]


def test_a_deleted_topic_is_gone_from_the_lag(read, make_topic, produce, commit, admin):
    topic, other, group = make_topic(), make_topic(), uuid4().hex
    produce(topic, 1, age_s=7_000)
    commit(group, topic, 0)
    assert len(read(group, [topic, other]).groups[group].index) == 2

    admin.delete_topics([topic])[topic].result(DEADLINE_S)
    end_s = time.monotonic() + DEADLINE_S
    while len((lag := read(group, [topic, other])).groups[group].index) == 2 and time.monotonic() < end_s:
        pass
    assert [part.topic for part in lag.of(group)] == [other]


def test_seconds_follow_the_position_and_records_that_are_gone_are_no_lag(read, make_topic, produce, commit, admin):
    topic, group = make_topic(), uuid4().hex
    for age_s in (9_000, 6_000, 3_000):
        produce(topic, 1, age_s=age_s)
    commit(group, topic, 0)
    assert seconds(read(group, [topic]), group) == [pytest.approx(9_000, abs=DEADLINE_S)]
    commit(group, topic, 1)
    assert seconds(read(group, [topic]), group) == [pytest.approx(6_000, abs=DEADLINE_S)]
    commit(group, topic, 0)
    assert seconds(read(group, [topic]), group) == [pytest.approx(9_000, abs=DEADLINE_S)]

    start = KafkaPartition(topic, 0, 2)
    admin.delete_records([start])[start].result(DEADLINE_S)
    lag = read(group, [topic])
    assert (lag.groups[group].start.tolist(), lag.groups[group].lag.tolist()) == ([2], [1])
    assert seconds(lag, group) == [pytest.approx(3_000, abs=DEADLINE_S)]


def test_so_many_records_are_read_in_a_round_and_the_others_in_the_next_ones(read, make_topic, produce):
    topics, group = [make_topic() for _ in range(5)], uuid4().hex
    for topic in topics:
        produce(topic, 1, age_s=10)
    known = [np.isfinite(seconds(read(group, topics, times_a_read=2), group)).sum() for _ in range(3)]

    assert known == [2, 4, 5]


def test_other_groups_are_read_where_they_committed_whatever_they_wrote_beside_it(read, make_topic, produce, commit):
    topic, group = make_topic(), uuid4().hex
    produce(topic, 3, age_s=0)
    commit(group, topic, 2, metadata="of a client that leaves notes")
    lag = read("nobody", [], others=True)

    assert [(part.topic, part.committed, part.lag) for part in lag.of(group)] == [(topic, 2, 1)]
    assert lag.groups[group].members == 0
    assert lag.groups["nobody"].index.tolist() == []


def test_a_member_is_counted(read, make_topic, kafka_bootstrap):
    topic, group = make_topic(), uuid4().hex
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": group})
    consumer.subscribe([topic])
    end_s = time.monotonic() + DEADLINE_S
    while not consumer.assignment() and time.monotonic() < end_s:
        consumer.poll(0.1)

    assert read(group, [topic]).groups[group].members == 1
    consumer.close()
    assert read(group, [topic]).groups[group].members == 0


def test_a_coordinator_that_is_away_is_looked_for_anew(kafka, monkeypatch):
    class Client:
        looked_up = 0

        async def coordinator_lookup(self, _kind, _group):
            self.looked_up += 1
            return 7

        async def send(self, _node, _request):
            raise OSError("away")

    async def ask_twice():
        reader = offsets.OffsetReader(kafka)
        monkeypatch.setattr(reader, "_client", client := Client())
        for _ in range(2):
            with pytest.raises(TransientError):
                await reader.committed("a-group")
        return client.looked_up

    assert asyncio.run(ask_twice()) == 2
