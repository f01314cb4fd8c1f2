"""Checks by topic ids that topics are the ones that a store's positions refer to, since names are reused."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from streamrec.adapters.kafka.client import client_config
from streamrec.errors import TransientError, WrongTopicError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import TopicPartition
from streamrec.service.ports import TopicIdStore

LOOK_S = 10.0
"""Check interval: a topic re-created under a running worker is detected within about this time."""

_ANSWER_S = 5.0
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id reported by brokers without topic ids, older than Kafka 2.8."""

_log = structlog.get_logger(__name__)


class _Topic(NamedTuple):
    topic_id: str
    partitions: list[TopicPartition]


class TopicWatch:
    """Compares the ids of topics with those in the store; not thread-safe.

    A store without an id for a topic, empty or from an earlier release, adopts the current one.

    Parameters
    ----------
    kafka
        Where Kafka is and how to get in.
    topics
        Topics to check.
    store
        Store of the ids.
    """

    def __init__(self, kafka: KafkaAccess, topics: Sequence[str], store: TopicIdStore) -> None:
        self._kafka = kafka
        self._topics = list(dict.fromkeys([*topics, *store.other_topics]))
        self._store = store
        self._admin = AdminClient(client_config(kafka))
        self._asked: Mapping[str, Future[Any]] = {}
        self._due_s = time.monotonic() + LOOK_S

    def check(self) -> None:
        """Request and compare ids, before anything is read; errors are retried soon.

        Raises
        ------
        WrongTopicError
            If a topic was re-created.
        """
        self._asked = self._ask()
        self._compare(_ANSWER_S)

    def look(self) -> None:
        """Compare ids when due, without waiting for the broker.

        Raises
        ------
        WrongTopicError
            If a topic was re-created.
        """
        if time.monotonic() < self._due_s:
            return
        if not self._asked:
            self._asked = self._ask()
        if all(future.done() for future in self._asked.values()):
            self._compare(0.0)

    def _ask(self) -> Mapping[str, Future[Any]]:
        names = {self._kafka.on_broker(topic): topic for topic in self._topics}
        asked = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=_ANSWER_S)
        return {names[name]: future for name, future in asked.items()}

    def _compare(self, timeout_s: float) -> None:
        asked, self._asked = self._asked, {}
        self._due_s = time.monotonic() + LOOK_S
        found = {topic: self._described(topic, future, timeout_s) for topic, future in asked.items()}
        try:
            self._judge({topic: each for topic, each in found.items() if each is not None})
        except TransientError as error:
            _log.warning("topic ids could not be checked", because=str(error))

    def _described(self, topic: str, future: Future[Any], timeout_s: float) -> _Topic | None:
        """Return the broker's description of a topic, `None` if it does not exist or cannot be described now."""
        try:
            found = future.result(timeout_s)
            return _Topic(str(found.topic_id), [TopicPartition(topic, part.id) for part in found.partitions])
        except NotYet:
            _log.warning("topic id could not be checked", topic=topic, because=f"no answer in {timeout_s:g} s")
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                _log.warning("topic id could not be checked", topic=topic, because=error.args[0].str())
        return None

    def _judge(self, found: Mapping[str, _Topic]) -> None:
        ids = {topic: each.topic_id for topic, each in found.items() if each.topic_id != _NO_ID}
        stored = self._store.topic_ids(list(ids))
        adopted = {topic: topic_id for topic, topic_id in ids.items() if stored.get(topic) != topic_id}
        for topic in adopted.keys() & stored.keys():
            if self._store.contains_any(found[topic].partitions):
                raise WrongTopicError(
                    f"topic {topic} was re-created: its id is {ids[topic]}, but the store has positions of "
                    f"{stored[topic]}; start with empty stores, or with the right broker"
                )
        if adopted:
            self._store.adopt_topic_ids(adopted)
            _log.info("topics", **adopted)
