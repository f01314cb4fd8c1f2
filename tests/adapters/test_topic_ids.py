"""The ids of topics beside the positions: the same of every store."""

from __future__ import annotations

import pytest
from builders import batch, part
from doubles import MemoryPublisher, MemoryTopicIds
from interests import stream
from msgspec.json import encode

from streamrec.adapters.postgres import PostgresRetentionStore
from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore
from streamrec.service.admission import Admission
from streamrec.service.batch import Slice, TopicPartition
from streamrec.service.ports import InterestSnapshot, Progress
from streamrec.service.retention_ports import RetentionChanges
from streamrec.service.train_on_interests import TrainOnInterests

SOURCE = TopicPartition("user-interests", 0)


def memory(_redis_url, _postgres_url):
    store = MemoryTopicIds()
    return store, lambda: store.stored.update({SOURCE: 3})


def interests(redis_url, _postgres_url):
    store = RedisInterestStore(redis_url, state_ttl_days=1, installation="shop")
    return store.topics, lambda: store.compare_and_set(InterestSnapshot({}, {SOURCE: Progress(next_offset=3)}))


def recall(redis_url, _postgres_url):
    store = RedisTopKStore(redis_url, list_ttl_days=1, installation="shop")
    return store.topics, lambda: store.advance([Slice(SOURCE, 0, 3)], [])


def retention(_redis_url, postgres_url):
    store = PostgresRetentionStore(postgres_url)

    def move():
        with store.transaction() as transaction:
            transaction.write(RetentionChanges({}, {}), {SOURCE: 3})

    return store, move


def trainer(_redis_url, _postgres_url):
    admission = Admission()
    return admission, lambda: admission.admit([], [Slice(SOURCE, 0, 3)])


@pytest.mark.parametrize("opened", [memory, interests, recall, retention, trainer])
def test_ids_are_kept_and_replaced_and_say_nothing_of_what_was_read(opened, redis_url, postgres_url):
    store, move = opened(redis_url, postgres_url)
    assert store.topic_ids(["clicks", "user-interests"]) == {}
    assert not store.contains_any([SOURCE])

    store.adopt_topic_ids({"clicks": "c1", "user-interests": "u1"})
    store.adopt_topic_ids({"clicks": "c2"})
    assert store.topic_ids(["clicks", "purchases", "user-interests"]) == {"clicks": "c2", "user-interests": "u1"}
    assert not store.contains_any([SOURCE])

    move()
    assert store.contains_any([SOURCE])
    assert not store.contains_any([TopicPartition("user-interests", 1), TopicPartition("clicks", 0)])


def test_two_workers_on_one_redis_keep_ids_of_their_own(redis_url):
    """A list store that was emptied begins anew, whatever the interest store knows."""
    store, _ = interests(redis_url, None)
    store.adopt_topic_ids({"user-interests": "u1"})
    assert recall(redis_url, None)[0].topic_ids(["user-interests"]) == {}


class NoTrainer:
    admissions = b""
    condemned = unsaved = ""


def test_the_trainer_fences_events_by_the_topics_that_they_come_from():
    """It reads neither clicks nor purchases, and would drop the first events of new ones as redeliveries."""
    training = TrainOnInterests(NoTrainer(), MemoryPublisher())
    clicks = TopicPartition("clicks", 0)
    assert {"clicks", "purchases"} <= set(training.other_topics)
    assert not training.contains_any([clicks])

    training.handle(batch(part("user-interests", [encode(each) for each in stream(3)])))
    assert training.contains_any([clicks])
    assert not training.contains_any([TopicPartition("clicks", 1)])


def test_a_checkpoint_keeps_ids_and_an_older_one_without_them_adopts_what_is_there():
    admission = Admission()
    admission.admit([], [Slice(SOURCE, 0, 3)])
    older = admission.state(0)
    admission.adopt_topic_ids({"user-interests": "u1"})
    assert admission.is_stale, "the next checkpoint holds it"

    restored = Admission()
    restored.restore(admission.state(0))
    assert restored.topic_ids(["user-interests"]) == {"user-interests": "u1"}
    admission.restore(older)
    assert admission.topic_ids(["user-interests"]) == {"user-interests": "u1"}, "a rollback forgets no topic"


def test_commands_begin_anew_with_their_topic():
    training = TrainOnInterests(NoTrainer(), MemoryPublisher())
    training._next_command = 5
    training.adopt_topic_ids({"model-control": "m1"})
    assert training._next_command == 5
    training.begin_anew("model-control", "m2")
    assert training._next_command == 0
    training._next_command = 1
    training.adopt_topic_ids({"model-control": "m2"})
    assert training._next_command == 1, "the same topic once more"
