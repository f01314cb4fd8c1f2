"""A topic is its id, not its name: one that was deleted and re-created is refused, and loses no record silently."""

from __future__ import annotations

import re
import time
from contextlib import closing
from uuid import uuid4

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition
from doubles import MemoryTopicIds
from kafka_topics import make_topic, recreate_topic
from structlog.testing import capture_logs
from waiting import DEADLINE_S

from streamrec.adapters.kafka import BatchSource, BroadcastReader, KafkaPublisher, topic_ids
from streamrec.errors import TransientError, WrongTopicError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import TopicPartition
from streamrec.service.ports import Outgoing


@pytest.fixture
def partitions():
    return 1


@pytest.fixture
def publish(kafka, topic):
    # a producer of its own each time: one that knows the deleted topic may have records acknowledged there
    return lambda count: KafkaPublisher(kafka).publish([Outgoing(topic, b"k", b"%d" % n) for n in range(count)])


class Reader:
    """A source whose store is in memory."""

    def __init__(self, kafka, topic, group=None):
        self.store = MemoryTopicIds()
        self.open = lambda: BatchSource(
            kafka=kafka,
            group=group or uuid4().hex,
            topics=[topic],
            positions=self.store.positions,
            topic_ids=self.store,
        )
        self.source = self.open()

    def read(self, count, within_s=DEADLINE_S):
        values = []
        end_s = time.monotonic() + within_s
        while len(values) < count and time.monotonic() < end_s:
            batch = self.source.poll(0.2)
            for part in batch.slices if batch else ():
                values += [record.value for record in part.records]
                self.store.stored[part.source] = part.next
            self.source.settle(dict.fromkeys(self.source.sources, 0) | self.store.positions(self.source.sources))
        return values


@pytest.fixture
def reader(kafka, topic):
    reader = Reader(kafka, topic)
    yield reader
    reader.source.close()


@pytest.mark.parametrize("grown_to", [0, 3, 5, 8])
def test_a_recreated_topic_is_refused_however_far_it_has_grown(reader, admin, publish, topic, grown_to):
    publish(5)
    assert len(reader.read(5)) == 5
    reader.source.close()
    old = reader.store.ids[topic]
    recreate_topic(admin, topic)
    publish(grown_to)

    with pytest.raises(WrongTopicError, match=rf"{topic} was re-created.*{re.escape(old)}.*start with empty stores"):
        reader.open()
    reader.store.ids, reader.store.stored = {}, {}  # as the error says
    reader.source = reader.open()
    assert len(reader.read(grown_to)) == grown_to


def test_a_topic_recreated_under_a_running_reader_is_noticed(reader, admin, publish, topic, monkeypatch):
    monkeypatch.setattr(topic_ids, "LOOK_S", 0.5)
    publish(5)
    assert len(reader.read(5)) == 5
    recreate_topic(admin, topic)
    publish(50)

    with pytest.raises(WrongTopicError, match=f"{topic}( was re-created|:0 ends)"):
        reader.read(1_000)


@pytest.mark.parametrize("grown_to", [2, 50])
def test_a_broadcast_topic_recreated_under_a_running_reader_is_read_from_its_beginning(
    kafka, admin, publish, topic, monkeypatch, grown_to
):
    monkeypatch.setattr(topic_ids, "LOOK_S", 0.2)
    other = f"{topic}-other"
    make_topic(admin, other)
    KafkaPublisher(kafka).publish([Outgoing(other, b"k", b"other")])
    publish(5)
    void, got = [], []
    follower = BroadcastReader(
        kafka=kafka, topics=[topic, other], on_recreated=lambda *topic_and_id: void.append((*topic_and_id, len(got)))
    )

    def read_until(done):
        end_s = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < end_s, got
            try:
                got.extend(record.value for _, record in follower.poll(0.1) or ())
            except TransientError:
                time.sleep(0.1)  # the topic is not there

    with closing(follower):
        read_until(lambda: len(got) == 6 and follower.caught_up)
        recreate_topic(admin, topic)
        publish(grown_to)
        read_until(lambda: void and follower.caught_up)
    admin.delete_topics([other])[other].result(DEADLINE_S)

    [(name, _, before)] = void
    assert name == topic
    assert got[before:] == [b"%d" % number for number in range(grown_to)]


def test_a_topic_of_which_nothing_was_read_may_be_another_one(reader, admin, publish, topic):
    while topic not in reader.store.ids:
        assert not reader.read(1, within_s=0.2)
    old = reader.store.ids[topic]
    reader.source.close()
    recreate_topic(admin, topic)
    publish(3)
    reader.source = reader.open()

    assert len(reader.read(3)) == 3
    assert reader.store.ids[topic] != old


def test_positions_of_a_release_that_kept_no_ids_take_on_the_id_of_the_topic(reader, publish, topic):
    publish(5)
    reader.store.stored = {TopicPartition(topic, 0): 3}
    reader.store.ids = {}
    reader.source.close()
    reader.source = reader.open()

    assert reader.read(2) == [b"3", b"4"]
    assert reader.store.ids.keys() == {topic}


def test_a_topic_that_was_deleted_is_waited_for(reader, admin, publish, topic, monkeypatch):
    monkeypatch.setattr(topic_ids, "LOOK_S", 0.2)
    publish(2)
    assert len(reader.read(2)) == 2
    admin.delete_topics([topic])[topic].result(DEADLINE_S)
    assert not reader.read(1, within_s=3)


def test_a_broker_that_is_away_is_waited_for():
    with capture_logs() as logged:
        store = MemoryTopicIds()
        topic_ids.TopicWatch(KafkaAccess("127.0.0.1:1"), ["clicks"], store).check()
    assert not store.ids
    assert [line["event"] for line in logged] == ["topic id could not be checked"]


def test_kafkas_committed_offset_follows_a_seek_back(kafka, publish, topic):
    """As after a store was emptied under a running worker: the lag must say that everything is read again."""
    group = uuid4().hex
    reader = Reader(kafka, topic, group)
    source = TopicPartition(topic, 0)
    observer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})

    def wait_for(committed):
        end_s = time.monotonic() + DEADLINE_S
        while (found := observer.committed([KafkaPartition(*source)], timeout=DEADLINE_S)[0].offset) != committed:
            assert time.monotonic() < end_s, found
            reader.read(0)
            reader.source.settle(reader.store.positions([source]))
            reader.source.poll(0.05)

    publish(5)
    assert len(reader.read(5)) == 5
    wait_for(5)
    reader.store.stored = {source: 0}
    reader.source.settle(reader.store.stored)
    wait_for(0)
    reader.store.stored = {source: 2}
    reader.source.settle(reader.store.stored)
    wait_for(2)
    assert reader.read(3) == [b"2", b"3", b"4"]
    publish(2)
    assert len(reader.read(2)) == 2
    wait_for(7)
    reader.source.close()
    observer.close()
