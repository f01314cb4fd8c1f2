"""What went back is committed explicitly, and nothing else is."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.commits import Commits
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import TopicPartition

CLICKS = TopicPartition("clicks", 0)


class Consumer:
    """Takes note of what is committed explicitly."""

    def __init__(self):
        self.explicit = []

    def store_offsets(self, offsets):
        """Take what librdkafka commits by itself."""

    def commit(self, offsets, *, asynchronous):
        assert asynchronous
        self.explicit += [part.offset for part in offsets]


@pytest.fixture
def consumer():
    return Consumer()


@pytest.fixture
def commits():
    return Commits(KafkaAccess("unused:9092"))


def test_positions_that_go_on_are_left_to_the_client(commits, consumer):
    for offset in (1, 2, 3):
        commits.take(consumer, {CLICKS: offset})
    assert consumer.explicit == []


def test_a_position_that_went_back_is_committed_until_kafka_has_it(commits, consumer):
    commits.note(CLICKS, 100)
    commits.take(consumer, {CLICKS: 0})
    commits.committed(None, [KafkaPartition("clicks", 0, 100)])  # one that was on its way
    commits.take(consumer, {CLICKS: 5})
    commits.committed(None, [KafkaPartition("clicks", 0, 5)])
    commits.take(consumer, {CLICKS: 9})
    assert consumer.explicit == [0, 5]


def test_a_position_that_is_where_it_was_again_is_left_to_the_client(commits, consumer):
    commits.note(CLICKS, 100)
    for offset in (99, 100, 101):
        commits.take(consumer, {CLICKS: offset})
    assert consumer.explicit == [99]
