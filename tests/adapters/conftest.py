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
def topic(admin):
    """Return a topic of two partitions that nobody else uses."""
    name = f"test-{uuid4().hex[:12]}"
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(DEADLINE_S)
    yield name
    admin.delete_topics([name])[name].result(DEADLINE_S)


@pytest.fixture(params=["memory", "redis"])
def store(request):
    return MemoryTopKStore() if request.param == "memory" else RedisLists(request.getfixturevalue("redis_url"))
