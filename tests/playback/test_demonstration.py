"""What the demo counts on the broker is what the workers count."""

from __future__ import annotations

from uuid import uuid4

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streamrec.adapters.kafka.group_lag import PartitionLag
from streamrec.contracts.topics import CLICKS, RECOMMENDATIONS, USER_INTERESTS
from streamrec.playback.demonstration import count_records, unprocessed

DEADLINE_S = 30


def test_markers_and_aborted_records_of_transactions_are_not_counted(kafka):
    topic = f"test-{uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(DEADLINE_S)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(DEADLINE_S)
    for count, end in (
        (3, producer.commit_transaction),
        (2, producer.abort_transaction),
        (1, producer.commit_transaction),
    ):
        producer.begin_transaction()
        for number in range(count):
            producer.produce(topic, str(number), partition=number % 2)
        producer.flush(DEADLINE_S)
        end(DEADLINE_S)

    assert count_records(kafka, [topic]) == 4


def test_a_list_made_in_the_background_is_no_event_that_waits():
    lags = {("streamrec-retention", RECOMMENDATIONS): 3, ("streamrec-interests", CLICKS): 0}
    assert unprocessed(map(part_with, lags, lags.values())) == 0
    lags |= {("streamrec-interests", CLICKS): 2, ("streamrec-recall", USER_INTERESTS): 1}
    assert unprocessed(map(part_with, lags, lags.values())) == 3


def part_with(source, lag):
    group, topic = source
    return PartitionLag(group=group, topic=topic, partition=0, committed=0, end=lag, lag=lag, behind_s=0.0)
