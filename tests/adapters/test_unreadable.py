"""A record, or a partition, that the client cannot read ends no reader: it is refused, and reading continues."""

from __future__ import annotations

import pytest
from builders import NOW_MS
from confluent_kafka import KafkaError, KafkaException, Message
from doubles import MemoryInterestStore, MemoryPublisher
from kafka_double import Bad, ConsumerDouble, Log, error, with_topics
from structlog.testing import capture_logs

from streamrec.adapters.kafka import BatchSource, BroadcastReader, broadcast, source
from streamrec.adapters.kafka.client import to_record
from streamrec.adapters.kafka.gathering import EDGES_S
from streamrec.adapters.kafka.unreadable import UNREADABLE_CODES
from streamrec.domain.interest import FoldRules
from streamrec.errors import StreamrecError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import TopicPartition
from streamrec.service.fold_interests import FoldInterests

CLICKS, OTHER = TopicPartition("clicks", 0), TopicPartition("clicks", 1)
NOWHERE = KafkaAccess("127.0.0.1:1")
POLLS = 200


@pytest.fixture
def open_source(monkeypatch):
    """Return what opens a source over logs in memory."""

    def open_source(logs, positions=lambda _sources: {}):
        double = ConsumerDouble(logs)
        monkeypatch.setattr(source, "Consumer", lambda _config: double)
        return BatchSource(kafka=NOWHERE, group="g", topics=["clicks"], positions=positions), double

    return open_source


def read_all(reader, logs, *, settles=True):
    """Read to the ends of the logs; return the records by partition, and where each slice begins and ends."""
    records, edges = {each: [] for each in logs}, {each: [] for each in logs}
    for _ in range(POLLS):
        batch = reader.poll(0.0)
        for part in batch.slices if batch else ():
            records[part.source] += part.records
            edges[part.source].append((part.start, part.next))
        if batch and settles:
            reader.settle({part.source: part.next for part in batch.slices})
    return records, edges


def offsets(records):
    """Return the offsets of the records that were read, and of those that were not."""
    read = [record.offset for record in records if record.fault is None]
    return read, [record.offset for record in records if record.fault is not None]


def assert_contiguous(edges, end):
    assert [start for start, _ in edges] == [0, *(next_ for _, next_ in edges[:-1])]
    assert edges[-1][1] == end


def test_a_record_whose_header_names_are_not_utf8_is_read_with_all_else_that_it_holds(open_source):
    logs = {CLICKS: Log(5, headerless=frozenset({2}))}
    reader, _ = open_source(logs)
    records, _ = read_all(reader, logs)

    assert offsets(records[CLICKS]) == ([0, 1, 3, 4], [2])
    bad = records[CLICKS][2]
    assert (bad.fault.reason, bad.key, bad.headers) == ("bad-headers", b"u1", {})
    assert b'"i2"' in bad.value


def test_headers_that_cannot_be_read_are_touched_once():
    """The client keeps a broken list after the error, and hands it out without one from then on."""
    calls = []

    class Broken(Message):
        def headers(self):
            calls.append(1)
            return super().headers() if len(calls) > 1 else b"\xff".decode()

    message = Broken(topic="clicks", partition=0, offset=4, value=b"v", headers=[("hole", b"v")], timestamp=(1, NOW_MS))
    records = [to_record(message) for _ in range(3)]

    assert records[0].fault.reason == "bad-headers"
    assert records == [records[0]] * 3
    assert records[0].headers == {}


@pytest.mark.parametrize("code", sorted(UNREADABLE_CODES))
def test_whatever_the_client_says_of_a_batch_that_it_cannot_unpack_the_records_behind_it_are_read(open_source, code):
    logs = {CLICKS: Log(30, [Bad(3, 11, code)]), OTHER: Log(50)}
    reader, _ = open_source(logs)
    records, _ = read_all(reader, logs)

    assert offsets(records[CLICKS]) == ([0, 1, 2, *range(12, 30)], [3])
    assert offsets(records[OTHER]) == (list(range(50)), [])


@pytest.mark.parametrize(("names_batch", "skips"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize(("first", "last", "end"), [(0, 0, 9), (3, 3, 9), (3, 20, 40), (0, 49, 50), (8, 8, 9)])
def test_what_cannot_be_unpacked_is_refused_and_all_behind_it_is_read(
    open_source, names_batch, skips, first, last, end
):
    logs = {CLICKS: Log(end, [Bad(first, last, names_batch=names_batch, skips=skips)]), OTHER: Log(50)}
    reader, _ = open_source(logs)
    records, edges = read_all(reader, logs)

    read, refused = offsets(records[CLICKS])
    assert read == [at for at in range(end) if not first <= at <= last]
    assert refused == ([first] if names_batch else list(range(first, last + 1)))
    assert {record.fault.reason for record in records[CLICKS] if record.fault} == {"unreadable"}
    assert_contiguous(edges[CLICKS], end)
    assert offsets(records[OTHER]) == (list(range(50)), [])


def test_the_end_of_a_large_batch_is_found_in_few_fetches(open_source):
    logs = {CLICKS: Log(1_000_000, [Bad(1_000, 60_000)])}
    reader, double = open_source(logs, lambda _sources: {CLICKS: 1_000})
    while (batch := reader.poll(0.0)) is None:
        pass

    assert batch.slices[0].records[0].fault.detail.startswith("offsets 1000 to 60000 cannot be read: Local: Invalid")
    assert len(double.seeks) < 40


def test_batches_that_follow_each_other_are_refused_one_by_one(open_source):
    logs = {CLICKS: Log(60, [Bad(2, 9), Bad(10, 30), Bad(33, 33)])}
    reader, _ = open_source(logs)
    records, edges = read_all(reader, logs)

    assert offsets(records[CLICKS]) == ([0, 1, 31, 32, *range(34, 60)], [2, 10, 33])
    assert_contiguous(edges[CLICKS], 60)


def test_a_position_inside_a_batch_that_cannot_be_read(open_source):
    logs = {CLICKS: Log(20, [Bad(2, 9)])}
    reader, _ = open_source(logs, lambda _sources: {CLICKS: 5})
    records, edges = read_all(reader, logs)

    assert offsets(records[CLICKS]) == (list(range(10, 20)), [5])
    assert (edges[CLICKS][0][0], edges[CLICKS][-1][1]) == (5, 20)


def test_a_log_that_ends_with_marks_of_transactions_behind_what_cannot_be_read(open_source, monkeypatch):
    monkeypatch.setattr("streamrec.adapters.kafka.unreadable.SILENCE_S", 0.0)
    logs = {CLICKS: Log(12, [Bad(2, 9)], gaps=frozenset({10, 11}))}
    reader, _ = open_source(logs)
    records, _ = read_all(reader, logs)

    assert offsets(records[CLICKS]) == ([0, 1], [2])
    logs[CLICKS].end = 14
    assert offsets(read_all(reader, logs)[0][CLICKS]) == ([12, 13], [])


def test_a_seek_that_does_not_work_yet_is_tried_again(open_source):
    logs = {CLICKS: Log(20, [Bad(2, 9)])}
    reader, double = open_source(logs)
    double.refuses_seeks = 3
    records, edges = read_all(reader, logs)

    assert offsets(records[CLICKS]) == ([0, 1, *range(10, 20)], [2])
    assert_contiguous(edges[CLICKS], 20)


def test_a_store_that_stands_elsewhere_ends_the_search(open_source):
    logs = {CLICKS: Log(40, [Bad(5, 30)])}
    reader, _ = open_source(logs)
    reader.poll(0.0)
    reader.poll(0.0)
    reader.settle({CLICKS: 0})
    records, edges = read_all(reader, logs)

    assert offsets(records[CLICKS]) == ([*range(5), *range(31, 40)], [5])
    assert_contiguous(edges[CLICKS], 40)


def test_interests_writes_the_dead_letter_of_what_could_not_be_read_and_counts_it(open_source):
    logs = {CLICKS: Log(12, [Bad(2, 4)], frozenset({7}))}
    reader, _ = open_source(logs)
    store, publisher = MemoryInterestStore(), MemoryPublisher()
    fold = FoldInterests(store, publisher, FoldRules(50))
    for _ in range(POLLS):
        batch = reader.poll(0.0)
        if batch:
            reader.settle(fold.handle(batch))

    letters = {int(each.headers["dlq.offset"]): each for each in publisher.of("clicks.dlq")}
    assert {at: each.headers["dlq.reason"] for at, each in letters.items()} == {2: b"unreadable", 7: b"bad-headers"}
    assert (letters[7].key, letters[7].headers["dlq.topic"]) == (b"u1", b"clicks")
    assert b'"i7"' in letters[7].value
    progress = store.progress([CLICKS])[CLICKS]
    assert (progress.next_offset, progress.applied, progress.dead_lettered) == (12, 8, 2)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError._CRIT_SYS_RESOURCE,
        KafkaError._FAIL,
    ],
)
def test_a_partition_that_is_refused_for_good_is_named_and_stops_no_other(open_source, code):
    logs = {CLICKS: Log(10), OTHER: Log(10)}
    reader, double = open_source(logs)
    double.queued = [error(CLICKS, code)] * 3
    double.logs[CLICKS].end = 0
    with capture_logs() as logged:
        records, _ = read_all(reader, logs)

    assert offsets(records[OTHER]) == (list(range(10)), [])
    assert list(reader.stopped) == [CLICKS]
    (line,) = [line for line in logged if line["event"] == "partition stopped"]
    assert (line["log_level"], line["topic"], line["partition"]) == ("error", "clicks", 0)

    double.logs[CLICKS].end = 4
    assert offsets(read_all(reader, logs)[0][CLICKS]) == (list(range(4)), [])
    assert not reader.stopped


@pytest.mark.parametrize("topic", ["", "clicks"])
@pytest.mark.parametrize(
    "code",
    [
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError._BAD_MSG,
    ],
)
def test_errors_of_no_partition_lose_nothing(open_source, code, topic):
    logs = {CLICKS: Log(10)}
    reader, double = open_source(logs)
    double.queued = [error(TopicPartition(topic, -1), code)]
    assert offsets(read_all(reader, logs)[0][CLICKS]) == (list(range(10)), [])


def test_what_had_arrived_when_reading_failed_is_taken_with_the_next_call(open_source):
    """The client has handed it out: it does not come again."""
    logs = {CLICKS: Log(30, [Bad(4, 5)])}
    reader, double = open_source(logs)
    failure = KafkaException(KafkaError(KafkaError._TRANSPORT))
    records = []
    for turn in range(POLLS):
        if turn in {1, 2, 5}:
            double.raises = [failure]
        try:
            batch = reader.poll(0.0)
        except TransientError:
            continue
        records += [record for _, record in batch or ()]

    assert offsets(records) == ([*range(4), *range(6, 30)], [4])
    assert not double.raises


def test_a_broker_that_does_not_answer_keeps_no_member_from_polling(open_source):
    """With each of many partitions it would wait longer than the group waits for a poll."""
    logs = {TopicPartition("clicks", number): Log(30) for number in range(256)}
    reader, double = open_source(logs, positions=lambda sources: dict.fromkeys(sources, 10))
    double.answers = False
    batch = reader.poll(0.0)

    assert double.waited_s <= EDGES_S
    assert all(part.start == 10 for part in batch.slices)


def test_a_client_that_can_never_read_again_is_an_error(open_source):
    reader, double = open_source({CLICKS: Log(10)})
    fatal = KafkaError(KafkaError._FATAL, "fenced", True)  # a positional flag of theirs
    double.raises = [KafkaException(fatal)]
    with pytest.raises(StreamrecError, match="fenced") as caught:
        reader.poll(0.0)
    assert not isinstance(caught.value, TransientError)


def test_a_broadcast_topic_is_read_behind_what_cannot_be_read_and_the_rest_is_counted(monkeypatch):
    items = TopicPartition("items", 0)
    double = ConsumerDouble({items: Log(30, [Bad(3, 7)], frozenset({9}))})
    double.list_topics = with_topics("items")
    monkeypatch.setattr(broadcast, "Consumer", lambda _config: double)
    reader = BroadcastReader(kafka=NOWHERE, topics=["items"])
    records = [record for _ in range(POLLS) for _, record in reader.poll(0.0) or ()]

    assert [record.offset for record in records] == [0, 1, 2, *range(8, 30)]
    assert reader.refused == {("items", "unreadable"): 1}
    assert reader.caught_up


def test_a_broadcast_topic_whose_log_begins_anew_is_read_from_its_beginning(monkeypatch):
    source = TopicPartition("items", 0)
    double = ConsumerDouble({source: Log(end=30)})
    double.list_topics = with_topics("items")
    monkeypatch.setattr(broadcast, "Consumer", lambda _config: double)
    reader = BroadcastReader(kafka=NOWHERE, topics=["items"])

    def offsets():
        return [record.offset for _ in range(3) for _, record in reader.poll(0.0) or ()]

    assert offsets() == list(range(30))
    double.logs[source], double.at[source] = Log(end=5), 0  # as `auto.offset.reset` has it
    with capture_logs() as logged:
        assert offsets() == list(range(5))
    assert [line["at"] for line in logged if line["event"] == "log truncated, continuing at its start"] == [0]
