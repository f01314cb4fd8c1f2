"""What tests of adapters share."""

from __future__ import annotations

from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from list_doubles import MemoryTopKStore
from stored_lists import RedisLists

DEADLINE_S = 60


@pytest.fixture
def admin(kafka_bootstrap):
    """Return an administrator of the broker."""
    return AdminClient({"bootstrap.servers": kafka_bootstrap})


@pytest.fixture
def partitions():
    """Return how many partitions the topic of a test has."""
    return 2


@pytest.fixture
def topic(admin, partitions):
    """Return a topic that nobody else uses."""
    name = f"test-{uuid4().hex[:12]}"
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(DEADLINE_S)
    yield name
    admin.delete_topics([name])[name].exception(DEADLINE_S)  # a test may have deleted it


@pytest.fixture(params=["memory", "redis"])
def store(request):
    return MemoryTopKStore() if request.param == "memory" else RedisLists(request.getfixturevalue("redis_url"))
