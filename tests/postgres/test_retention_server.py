"""Connecting, migrating and sharing a server: errors in our words, one schema, and nobody waits for the dead."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from builders import NOW_MS, batch, part
from doubles import MemoryPublisher
from waiting import DEADLINE_S

from streamrec.adapters.postgres import PostgresRetentionStore, RetentionReader, engine
from streamrec.adapters.postgres.migrate import migrate
from streamrec.adapters.postgres.store import PostgresTransaction
from streamrec.adapters.postgres.tables import metadata
from streamrec.errors import SettingsError, StreamrecError, TransientError
from streamrec.monitor.servers import Servers
from streamrec.service.batch import TopicPartition
from streamrec.service.record_retention import RecordRetention
from streamrec.settings import Settings

CLICKS = TopicPartition("clicks", 0)


def click(user_id="u1"):
    return json.dumps({"user_id": user_id, "item_id": "a", "event_time_ms": NOW_MS}).encode()


def recorder(url):
    return RecordRetention(
        PostgresRetentionStore(url), MemoryPublisher(), arm_of=lambda _: "personal", follow_window_minutes=30
    )


def execute(url, statement, *values):
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
    connection.close()


@pytest.fixture
def empty_database(postgres_url):
    """Return a database without tables."""
    name = f"empty_{uuid4().hex[:12]}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    yield postgres_url.rpartition("/")[0] + f"/{name}"
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def differences(url):
    connected = engine.connect(url)
    with connected.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    connected.dispose()
    return found


def test_migrations_make_the_tables_that_the_code_uses(postgres_url):
    assert differences(postgres_url) == []
    execute(postgres_url, "ALTER TABLE activity DROP COLUMN clicks")
    assert differences(postgres_url) != []


def test_processes_that_migrate_at_once_all_find_the_tables(empty_database):
    start = threading.Barrier(4)

    def work(_):
        start.wait(DEADLINE_S)
        migrate(empty_database)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert differences(empty_database) == []


def test_migrating_again_keeps_what_is_there(postgres_url):
    recorder(postgres_url).handle(batch(part("clicks", [click()])))
    migrate(postgres_url)
    assert PostgresRetentionStore(postgres_url).positions([CLICKS]) == {CLICKS: 1}


def test_a_database_without_tables_says_what_to_run(empty_database):
    with pytest.raises(StreamrecError, match="streamrec migrate"):
        RetentionReader(empty_database).report()


@pytest.mark.parametrize("url", ["", "no address", "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:port/d"])
def test_a_wrong_address_names_the_setting_and_no_password(url):
    with pytest.raises(SettingsError, match="STREAMREC_POSTGRES_URL") as caught:
        PostgresRetentionStore(url)
    assert "hunter2" not in str(caught.value)


def test_a_stopped_process_does_not_keep_its_partitions(postgres_url, monkeypatch):
    monkeypatch.setattr(engine, "IDLE_TRANSACTION_TIMEOUT_MS", 300)
    stopped = PostgresRetentionStore(postgres_url)
    moved = []

    def stop_and_go_on():
        with stopped.transaction() as transaction:
            transaction.lock_positions([CLICKS])
            # says nothing more for as long as the other one waits for its lock
            moved.append(recorder(postgres_url).handle(batch(part("clicks", [click()]))))
            transaction.lock_positions([CLICKS])

    with pytest.raises(TransientError, match="PostgreSQL"):
        stop_and_go_on()
    assert moved == [{CLICKS: 1}]
    assert stopped.positions([CLICKS]) == {CLICKS: 1}


def test_a_batch_whose_connection_was_ended_goes_through_again(postgres_url, monkeypatch):
    record = recorder(postgres_url)
    record.handle(batch(part("clicks", [click()])))
    write = PostgresTransaction.write

    def write_without_connection(transaction, *changes):
        execute(
            postgres_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = %s",
            "idle in transaction",
        )
        write(transaction, *changes)

    second = batch(part("clicks", [click()], start=1))
    with monkeypatch.context() as broken:
        broken.setattr(PostgresTransaction, "write", write_without_connection)
        with pytest.raises(TransientError, match="PostgreSQL"):
            record.handle(second)
    assert record.handle(second) == {CLICKS: 2}
    assert RetentionReader(postgres_url).report().arms[0].clicks == 2


def test_a_server_that_is_read_only_after_a_failover_is_waited_for_and_named(postgres_url):
    record = recorder(postgres_url)
    work = batch(part("clicks", [click()]))
    name = postgres_url.rpartition("/")[2]
    execute(postgres_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    settings = Settings(kafka="nowhere:1", postgres_url=postgres_url)
    with pytest.raises(TransientError, match="read-only: a standby, or default_transaction_read_only is on"):
        record.handle(work)
    servers = Servers(settings)
    assert asyncio.run(servers.faults()) == {}
    assert "read-only" in servers.conditions["PostgreSQL"].unfit[0]

    execute(postgres_url.rpartition("/")[0] + "/postgres", f"ALTER DATABASE {name} RESET ALL")
    # connections that were made before keep the setting, so new ones are made
    assert record.handle(work) == {CLICKS: 1}
    assert asyncio.run(servers.faults()) == {}
    assert not servers.conditions["PostgreSQL"].unfit
