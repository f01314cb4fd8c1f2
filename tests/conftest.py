"""Real servers for every test that wants one: started once a session, each test with a corner of its own."""

from __future__ import annotations

import logging
import os
from uuid import uuid4

import hypothesis
import psycopg2
import pytest
import redis
from psycopg2 import sql

from streamrec.adapters.postgres.migrate import migrate
from streamrec.local import local_stack
from streamrec.settings import Settings

hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")


def pytest_configure():
    """Keep torch to one thread: where others want the same cores, its threads spend the time waiting for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_logging():
    """Take back what a test changed about logging: handlers hold on to the streams of the test that made them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """Run Apache Kafka, Valkey and PostgreSQL for the whole session."""
    with local_stack(Settings(data_dir=tmp_path_factory.mktemp("stack")), progress=False) as running:
        yield running


@pytest.fixture
def kafka_bootstrap(stack):
    """Return the broker, with the topics of streamrec; a test that wants a topic to itself makes one."""
    return stack.settings.kafka


@pytest.fixture
def kafka(stack):
    """Return how streamrec's own clients get to that broker."""
    return stack.settings.require_kafka()


@pytest.fixture
def redis_url(stack):
    """Return an empty Redis."""
    url = stack.settings.require_redis_url()
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def redis_client(redis_url):
    """Return a client of that Redis."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def postgres_url(stack):
    """Return a database with all tables, for one test."""
    url = stack.settings.require_postgres_url()
    name = f"test_{uuid4().hex[:12]}"
    server = psycopg2.connect(url)
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    own = url.rpartition("/")[0] + f"/{name}"
    migrate(own)
    yield own
    with server.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    server.close()
