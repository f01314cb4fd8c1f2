"""Lag and sizes of topics, from a real broker."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition
from waiting import DEADLINE_S

from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.kafka.lag import GROUPS, read_lag, read_topics
from streamrec.contracts.topics import TOPICS
from streamrec.errors import TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.ports import Outgoing


def publish(kafka, topic, count, *, age_ms):
    """Produce records with one key, so to one partition; answer which."""
    produced_ms = int(time.time() * 1_000) - age_ms
    KafkaPublisher(kafka).publish([Outgoing(topic, b"k", b"v", {}, produced_ms + n) for n in range(count)])
    (partition,) = [part.partition for part in read_lag(kafka, {uuid4().hex: [topic]}) if part.end]
    return partition


def commit(kafka, group, topic, partition, offset):
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    consumer.commit(offsets=[KafkaPartition(topic, partition, offset)], asynchronous=False)
    consumer.close()


def test_lag_counts_from_the_committed_position_and_its_record_tells_the_age(kafka, topic):
    partition = publish(kafka, topic, 10, age_ms=10_000_000)
    group = uuid4().hex
    commit(kafka, group, topic, partition, 4)
    found = {part.partition: part for part in read_lag(kafka, {group: [topic]})}

    assert (found[partition].committed, found[partition].end, found[partition].lag) == (4, 10, 6)
    assert found[partition].behind_s == pytest.approx(10_000, abs=DEADLINE_S)
    assert (found[1 - partition].committed, found[1 - partition].lag, found[1 - partition].behind_s) == (None, 0, 0.0)


def test_a_group_that_never_committed_has_everything_before_it(kafka, topic):
    partition = publish(kafka, topic, 10, age_ms=0)
    found = {part.partition: part for part in read_lag(kafka, {uuid4().hex: [topic]})}

    assert (found[partition].committed, found[partition].lag) == (None, 10)


def test_a_group_at_the_end_is_not_behind(kafka, topic):
    partition = publish(kafka, topic, 10, age_ms=100_000)
    group = uuid4().hex
    commit(kafka, group, topic, partition, 10)

    assert sum(part.lag for part in read_lag(kafka, {group: [topic]})) == 0
    assert {part.behind_s for part in read_lag(kafka, {group: [topic]})} == {0.0}


def test_a_topic_that_does_not_exist_has_no_partitions(kafka):
    assert read_lag(kafka, {uuid4().hex: [f"missing-{uuid4().hex}"]}) == []


def test_all_workers_groups_are_known(kafka):
    assert {part.group for part in read_lag(kafka)} == set(GROUPS)


def test_all_topics_are_listed_with_their_records(kafka):
    before = {size.topic: size.records for size in read_topics(kafka)}
    KafkaPublisher(kafka).publish([Outgoing("impressions", b"k", b"v")] * 3)
    after = {size.topic: size for size in read_topics(kafka)}

    assert list(after) == [topic.name for topic in TOPICS]
    assert after["impressions"].records == before["impressions"] + 3
    assert (after["clicks"].partitions, after["items"].partitions) == (4, 1)


def test_a_broker_that_does_not_answer_is_a_transient_error():
    with pytest.raises(TransientError):
        read_lag(KafkaAccess("127.0.0.1:1"), {"g": ["t"]})
