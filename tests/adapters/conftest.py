"""What tests of adapters share."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient
from kafka_topics import new_topic
from list_doubles import MemoryTopKStore
from stored_lists import RedisLists


@pytest.fixture
def admin(kafka_bootstrap):
    """Return an administrator of the broker."""
    return AdminClient({"bootstrap.servers": kafka_bootstrap})


@pytest.fixture
def partitions():
    """Return how many partitions the topic of a test has."""
    return 2


@pytest.fixture
def topic(kafka_bootstrap, partitions):
    """Return a topic that nobody else uses."""
    with new_topic(kafka_bootstrap, partitions) as name:
        yield name


@pytest.fixture(params=["memory", "redis"])
def store(request):
    return MemoryTopKStore() if request.param == "memory" else RedisLists(request.getfixturevalue("redis_url"))
