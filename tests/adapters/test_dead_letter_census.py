"""Records that were refused are counted once, whatever becomes of their letters."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from waiting import DEADLINE_S

from streamrec.adapters.kafka import dead_letter_census
from streamrec.adapters.kafka.dead_letter_census import DeadLetterCensus
from streamrec.adapters.kafka.dead_letters import BEGINNING_BYTES, DeadLetter, records_to_replay
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of, start_offsets
from streamrec.contracts.headers import DeadLetterHeaders
from streamrec.service.batch import Record, TopicPartition

SHOP = {"ce_source": b"shop", "ce_id": b"7"}


@pytest.fixture
def census(kafka):
    made = DeadLetterCensus(kafka, newest=2)
    yield made
    made.close()


@pytest.fixture
def look(kafka, topic, census):
    """Return what looks until everything was counted, and answers the number of records."""
    observer = open_observer(kafka)

    def look():
        sources = partitions_of(observer, [topic])
        starts, ends = start_offsets(observer, sources), end_offsets(observer, sources)
        until_s = time.monotonic() + DEADLINE_S
        while not census.look({source: (starts[source], ends[source]) for source in sources}):
            assert time.monotonic() < until_s
        return census.records

    yield look
    observer.close()


def refused(value, offset, headers=None):
    """Return the letter of a record that was refused at an offset of partition 3."""
    about = DeadLetterHeaders(
        topic="clicks",
        partition=3,
        offset=offset,
        timestamp=0,
        reason="bad-json",
        message="",
        stage="interests",
        app_version="0",
    )
    return DeadLetter(
        TopicPartition("clicks.dlq", 0), Record(0, 0, b"u1", value, {**(headers or {}), **about.encode()})
    )


@pytest.fixture
def send(kafka_bootstrap, topic):
    producer = Producer({"bootstrap.servers": kafka_bootstrap})

    def send(*letters, partition=0, at_ms=0):
        for letter in letters:
            headers = dict(letter.record.headers)
            producer.produce(topic, letter.record.value, b"u1", partition, timestamp=at_ms, headers=headers)
        assert producer.flush(DEADLINE_S) == 0

    return send


@pytest.mark.parametrize(
    ("value", "headers"), [(b"{broken", {}), (b'{"event_id": "e1"}', {}), (b"{broken", SHOP), (None, {})]
)
def test_a_record_that_was_replayed_and_refused_again_is_the_same_record(value, headers):
    first = refused(value, 17, headers)
    (put_back,) = records_to_replay([first])
    again = refused(put_back.value, 99, put_back.headers)
    (put_back_again,) = records_to_replay([first, again])

    assert first.identity == again.identity == refused(put_back_again.value, 120, put_back_again.headers).identity


def test_other_records_are_others_whatever_they_share():
    letters = [
        refused(b"{broken", 17),
        refused(b"{broken", 18),
        refused(b"{other", 19, SHOP),
        refused(b"{broken", 20, SHOP),
        refused(b'{"event_id": "e1"}', 21),
        refused(b'{"event_id": "e1", "item_id": 7}', 22),
    ]
    assert len({letter.identity for letter in letters}) == len(letters)


def test_letters_that_come_are_counted_and_those_that_go_are_not(look, send, topic, kafka_bootstrap):
    send(refused(b"{a", 1), refused(b"{b", 2))
    send(refused(b"{c", 3), partition=1)
    assert look() == 3

    send(refused(b"{a", 50, {"ce_source": b"streamrec-dlq", "ce_id": b"clicks:3:1"}), refused(b"{d", 4))
    assert look() == 4

    admin, start = AdminClient({"bootstrap.servers": kafka_bootstrap}), KafkaPartition(topic, 0, 2)
    admin.delete_records([start])[start].result(DEADLINE_S)
    assert look() == 3, "the letter of `b` is gone, that of `a` has a successor"


def test_the_newest_letters_of_a_topic_are_kept_and_begin_as_they_were_produced(look, send, census):
    value = bytes(range(256)) * 20
    for partition, at_ms in [(0, 1_000), (1, 2_000), (0, 3_000), (1, 4_000), (1, 5_000)]:
        send(refused(value, at_ms), partition=partition, at_ms=at_ms)
    look()

    assert [letter.record.timestamp_ms for letter in census.newest] == [5_000, 4_000]
    for letter in census.newest:
        assert letter.record.value == value[:BEGINNING_BYTES]
        assert letter.header("reason") == "bad-json"


def test_of_more_records_than_are_told_apart_the_count_is_a_lower_bound(look, send, census, monkeypatch):
    monkeypatch.setattr(dead_letter_census, "MAX_COUNTED", 3)
    send(*(refused(b"{%d" % n, n) for n in range(5)))

    assert look() == 3
    assert not census.is_complete


def test_transactions_that_were_aborted_are_no_letters_and_end_the_look(look, kafka_bootstrap, topic):
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": uuid4().hex})
    producer.init_transactions(DEADLINE_S)
    producer.begin_transaction()
    producer.produce(topic, b"{a", partition=0)
    producer.flush(DEADLINE_S)
    producer.abort_transaction(DEADLINE_S)

    assert look() == 0
