"""Topics for single tests: the broker confirms a change before it applies it, so they are waited for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from waiting import DEADLINE_S, wait


@contextmanager
def new_topic(bootstrap: str, partitions: int = 1, *, config: Mapping[str, str] | None = None) -> Iterator[str]:
    """Make a topic, and delete it in the end if it is still there."""
    admin, name = AdminClient({"bootstrap.servers": bootstrap}), f"test-{uuid4().hex[:12]}"
    make_topic(admin, name, partitions, config=config)
    try:
        yield name
    finally:
        admin.delete_topics([name])[name].exception(DEADLINE_S)


def make_topic(
    admin: AdminClient, name: str, partitions: int = 1, *, config: Mapping[str, str] | None = None, instead_of: str = ""
) -> str:
    """Make a topic, also while one of that name is being deleted; answer its id once its partitions have leaders."""
    topic = NewTopic(name, partitions, 1, config=dict(config or {}))
    wait(lambda: admin.create_topics([topic])[name].exception(DEADLINE_S) is None, f"{name} to be created")
    return str(wait(lambda: (found := topic_id(admin, name)) != instead_of and found, f"{name} to be known"))


def recreate_topic(admin: AdminClient, name: str, partitions: int = 1) -> None:
    """Delete a topic and create another one of its name."""
    before = topic_id(admin, name)
    admin.delete_topics([name])[name].result(DEADLINE_S)
    make_topic(admin, name, partitions, instead_of=before)


def topic_id(admin: AdminClient, name: str) -> str:
    """Return the id of a topic as the broker tells its clients now, empty while a partition has no leader."""
    try:
        described = admin.describe_topics(TopicCollection([name]))[name].result(DEADLINE_S)
    except KafkaException:  # unknown yet
        return ""
    return str(described.topic_id) if all(part.leader is not None for part in described.partitions) else ""
