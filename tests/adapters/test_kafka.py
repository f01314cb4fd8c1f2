"""Reading and publishing on a real broker."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs
from waiting import DEADLINE_S

from streamrec.adapters.kafka import BatchSource, BroadcastReader, KafkaPublisher, create_topics
from streamrec.contracts.topics import TOPICS
from streamrec.errors import StreamrecError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import TopicPartition
from streamrec.service.ports import Outgoing


@pytest.fixture
def publish(kafka, topic):
    publisher = KafkaPublisher(kafka)

    def publish(*values, key=b"k"):
        publisher.publish([Outgoing(topic, key, value, {"h": b"v"}) for value in values])

    return publish


@pytest.fixture
def open_source(kafka, topic):
    opened = []

    def open_source(positions=lambda _sources: {}, group=None):
        source = BatchSource(kafka=kafka, group=group or uuid4().hex, topics=[topic], positions=positions)
        opened.append(source)
        return source

    yield open_source
    for source in opened:
        source.close()


def read(source, count, *, settle=True):
    """Read until so many records are there; answer them with the slices they came in."""
    records, slices = [], []
    deadline_s = time.monotonic() + DEADLINE_S
    while len(records) < count and time.monotonic() < deadline_s:
        batch = source.poll(0.2)
        if batch is None:
            continue
        slices += batch.slices
        records += [record for _, record in batch]
        if settle:
            source.settle({part.source: part.next for part in batch.slices})
    return records, slices


def test_records_come_whole_and_in_order(open_source, publish):
    publish(b"a", b"b", None)
    records, slices = read(open_source(), 3)
    assert [(record.value, record.key, record.headers) for record in records] == [
        (b"a", b"k", {"h": b"v"}),
        (b"b", b"k", {"h": b"v"}),
        (None, b"k", {"h": b"v"}),
    ]
    assert (slices[0].start, slices[-1].next) == (0, 3)


def test_the_store_says_where_to_start(open_source, publish, topic):
    publish(*(b"%d" % n for n in range(5)))
    source = open_source(lambda sources: dict.fromkeys(sources, 3) if sources[0].topic == topic else {})
    with pytest.raises(StreamrecError, match="was read up to 3"):
        # the partition that the key does not go to is empty: position 3 cannot be
        read(source, 1)


def test_a_source_resumes_at_the_position(open_source, publish):
    publish(*(b"%d" % n for n in range(5)))
    _, slices = read(open_source(), 5)
    written = slices[0].source
    records, slices = read(open_source(lambda _sources: {written: 3}), 2)
    assert [record.value for record in records] == [b"3", b"4"]
    assert slices[0].start == 3


def test_settling_elsewhere_goes_there(open_source, publish):
    publish(*(b"%d" % n for n in range(5)))
    source = open_source()
    _, slices = read(source, 5, settle=False)
    written = slices[0].source
    source.settle({written: 2})
    records, slices = read(source, 3)
    assert [record.value for record in records] == [b"2", b"3", b"4"]
    assert slices[0].start == 2


@pytest.fixture
def truncate(kafka):
    """Return what makes the broker forget the records before an offset, as its retention does."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def truncate(source, before):
        part = KafkaPartition(*source, before)
        admin.delete_records([part])[part].result(DEADLINE_S)

    return truncate


def lost(logs):
    return [line["count"] for line in logs if line["event"] == "records lost"]


def test_what_the_broker_forgot_before_the_position_is_said_loudly_and_the_work_goes_on(open_source, publish, truncate):
    publish(*(b"%d" % n for n in range(8)))
    _, slices = read(open_source(), 8)
    written = slices[0].source
    truncate(written, 5)
    with capture_logs() as logs:
        records, slices = read(open_source(lambda _sources: {written: 3}), 3)

    assert [record.value for record in records] == [b"5", b"6", b"7"]
    assert (slices[0].start, slices[-1].next) == (3, 8), "the store's position moves on from where it stands"
    assert lost(logs) == [2]
    assert [line["log_level"] for line in logs if line["event"] == "records lost"] == ["error"]


def test_what_the_broker_forgets_while_a_worker_reads_is_said_too(open_source, publish, truncate):
    publish(*(b"%d" % n for n in range(8)))
    source = open_source()
    _, slices = read(source, 8, settle=False)
    written = slices[0].source
    truncate(written, 5)
    with capture_logs() as logs:
        source.settle({written: 1})
        records, _ = read(source, 3)
        source.settle({written: 2})
        read(source, 3)

    assert [record.value for record in records] == [b"5", b"6", b"7"]
    assert lost(logs) == [4], "the same records are counted once"


def test_what_the_broker_forgets_beyond_a_reader_that_is_behind_is_said_and_the_work_goes_on(
    open_source, publish, truncate
):
    publish(*(b"%d" % n for n in range(5)))
    source = open_source()
    _, slices = read(source, 5)
    written = slices[0].source
    source.keep_alive()  # nothing is fetched while a batch takes long
    publish(*(b"%d" % n for n in range(5, 10)))
    truncate(written, 8)
    with capture_logs() as logs:
        records, slices = read(source, 2)

    assert [record.value for record in records] == [b"8", b"9"]
    assert (slices[0].start, slices[-1].next) == (5, 10)
    assert lost(logs) == [3]


def test_a_log_that_ends_before_a_running_readers_position_is_refused(open_source, publish):
    """As after a topic was re-created, whose first records look as if they had been read."""
    publish(*(b"%d" % n for n in range(5)))
    source = open_source()
    _, slices = read(source, 5)
    source.settle({slices[0].source: 50})
    with pytest.raises(StreamrecError, match="was read up to 50"):
        read(source, 1)


def test_kafkas_committed_offset_follows_for_lag(open_source, publish, kafka, topic):
    group = uuid4().hex
    publish(b"a", b"b")
    source = open_source(group=group)
    _, slices = read(source, 2)
    source.close()

    partition = slices[0].source.partition
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    assert consumer.committed([KafkaPartition(topic, partition)], timeout=DEADLINE_S)[0].offset == 2
    consumer.close()


def test_a_long_batch_keeps_the_membership_and_loses_nothing(open_source, publish):
    publish(b"a", b"b")
    source = open_source()
    _, slices = read(source, 2, settle=False)
    publish(b"c")
    for _ in range(20):
        source.keep_alive()
    source.settle({slices[0].source: 2})
    records, _ = read(source, 1)
    assert [record.value for record in records] == [b"c"]


def test_partitions_that_come_back_after_a_long_batch_are_read(open_source, publish):
    """A long batch pauses its partitions; they may go and come back before the next one is read."""
    group = uuid4().hex
    source = open_source(group=group)
    publish(*(b"%d" % n for n in range(5)))
    read(source, 5)
    source.keep_alive()
    both = source.sources
    other = open_source(group=group)
    deadline_s = time.monotonic() + DEADLINE_S
    while source.sources == both and time.monotonic() < deadline_s:
        other.poll(0.1)
        source.keep_alive()
    assert source.sources != both  # none, or already its share
    source.poll(0)
    other.close()
    publish(b"more")

    records, _ = read(source, 6)
    assert records[-1].value == b"more"


def test_two_members_share_the_partitions_and_read_all(open_source, publish):
    group = uuid4().hex
    positions: dict[TopicPartition, int] = {}
    sources = [open_source(lambda wanted: {s: positions[s] for s in wanted if s in positions}, group) for _ in "ab"]
    for key in range(40):
        publish(b"%d" % key, key=b"%d" % key)
    values = set()
    deadline_s = time.monotonic() + DEADLINE_S
    while len(values) < 40 and time.monotonic() < deadline_s:
        for source in sources:
            batch = source.poll(0.1)
            if batch is not None:
                positions |= {part.source: part.next for part in batch.slices}
                source.settle(positions)
                values |= {record.value for _, record in batch}
    assert len(values) == 40
    assert sum(positions.values()) == 40


def test_a_broadcast_reader_reads_all_from_the_start_and_follows(kafka, topic, publish):
    publish(b"a", b"b")
    reader = BroadcastReader(kafka=kafka, topics=[topic])
    assert not reader.caught_up
    records, _ = read(reader, 2, settle=False)
    assert reader.caught_up
    publish(b"c")
    more, _ = read(reader, 1, settle=False)
    assert [record.value for record in records + more] == [b"a", b"b", b"c"]
    reader.close()


def test_a_broadcast_reader_has_caught_up_although_the_log_ends_with_the_mark_of_a_transaction(kafka, topic):
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(DEADLINE_S)
    producer.begin_transaction()
    producer.produce(topic, b"a", partition=0)
    producer.commit_transaction(DEADLINE_S)
    reader = BroadcastReader(kafka=kafka, topics=[topic])
    deadline_s = time.monotonic() + DEADLINE_S
    while not reader.caught_up and time.monotonic() < deadline_s:
        reader.poll(0.1)
    assert reader.caught_up
    reader.close()


def test_a_broadcast_topic_that_is_not_there_is_transient(kafka):
    with pytest.raises(TransientError, match="does not exist yet"):
        BroadcastReader(kafka=kafka, topics=[f"none-{uuid4().hex}"])


def test_creating_topics_twice_changes_nothing(kafka):
    create_topics(kafka, 4, 1)
    assert create_topics(kafka, 4, 1) == []
    names = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=DEADLINE_S).topics
    assert {topic.name for topic in TOPICS} <= names.keys()


def test_a_broker_that_is_away_is_transient():
    with pytest.raises(TransientError, match="Kafka"):
        create_topics(KafkaAccess("127.0.0.1:1"), 1, 1)
