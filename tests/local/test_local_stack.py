"""Real servers from Python packages: durable, alone on their directory, and gone with whoever started them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from filelock import FileLock
from structlog.testing import capture_logs
from waiting import DEADLINE_S

from streamrec.errors import StreamrecError, UsageError
from streamrec.local import find_running, kafka_jars, local_stack
from streamrec.local.guardian import Guardian
from streamrec.local.kafka_jars import JarsUnavailableError, check_jars
from streamrec.local.kafka_rehearsal import quick_start
from streamrec.local.postgres import start_postgres
from streamrec.local.server import choose_port
from streamrec.settings import Settings

PARENT = """
import sys, time
from pathlib import Path
from streamrec.local import local_stack
from streamrec.settings import Settings

with local_stack(Settings(data_dir=Path(sys.argv[1])), progress=False) as stack:
    print("up", flush=True)
    time.sleep(600)
"""


def consume_one(bootstrap, topic):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    message = consumer.poll(DEADLINE_S)
    consumer.close()
    return message.value()


def test_everything_survives_a_restart_at_the_same_addresses(tmp_path):
    settings = Settings(data_dir=tmp_path)
    with local_stack(settings, progress=False) as stack:
        before = stack.settings.addresses()
        assert stack.broker == "apache-kafka-4.3.1"
        producer = Producer({"bootstrap.servers": before["kafka"]})
        producer.produce("clicks", b"event")
        assert producer.flush(DEADLINE_S) == 0
        with redis.Redis.from_url(before["redis_url"]) as client:
            client.set("key", "value")
        with psycopg2.connect(before["postgres_url"]) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT 1 AS one")
        connection.close()

    with local_stack(settings, progress=False) as stack:
        assert stack.settings.addresses() == before
        assert consume_one(before["kafka"], "clicks") == b"event"
        with redis.Redis.from_url(before["redis_url"]) as client:
            assert client.get("key") == b"value"
        with psycopg2.connect(before["postgres_url"]) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT one FROM kept")
            assert cursor.fetchone() == (1,)
        connection.close()


def test_a_second_stack_on_the_same_directory_is_refused(stack):
    with (
        pytest.raises(UsageError, match="STREAMREC_DATA_DIR"),
        local_stack(Settings(data_dir=stack.settings.data_dir), progress=False),
    ):
        pass


def test_another_terminal_finds_the_running_stack(stack, tmp_path):
    found = find_running(Settings(data_dir=stack.settings.data_dir))
    assert found.addresses() == stack.settings.addresses()
    assert (stack.settings.data_dir / "stack.json").stat().st_mode & 0o077 == 0
    assert find_running(Settings(data_dir=tmp_path)) is None


def test_addresses_that_are_set_go_first(stack):
    found = find_running(Settings(data_dir=stack.settings.data_dir, kafka="elsewhere:9092"))
    assert found.kafka == "elsewhere:9092"
    assert found.addresses()["redis_url"] == stack.settings.addresses()["redis_url"]


def test_a_stack_that_was_killed_is_not_found(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "stack.json").write_text(json.dumps({"pid": ended.pid, "addresses": {"kafka": "gone:1"}}))
    assert find_running(Settings(data_dir=tmp_path)) is None


def test_a_stack_that_was_killed_is_not_found_when_its_number_is_anothers(tmp_path):
    with FileLock(tmp_path / "stack.lock"):
        pass
    (tmp_path / "stack.json").write_text(json.dumps({"pid": os.getpid(), "addresses": {"kafka": "gone:1"}}))

    assert find_running(Settings(data_dir=tmp_path)) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "addresses": {"kafka": 7}}', "\xff"])
def test_what_a_killed_stack_left_half_written_is_no_stack(tmp_path, content):
    (tmp_path / "stack.lock").touch()
    (tmp_path / "stack.json").write_bytes(content.encode("latin-1"))

    assert find_running(Settings(data_dir=tmp_path)) is None
    with (
        FileLock(tmp_path / "stack.lock"),
        pytest.raises(StreamrecError, match=r"stack.json cannot be read .* restart"),
    ):
        find_running(Settings(data_dir=tmp_path))


@pytest.mark.parametrize("content", ["", "port", "-3", "0", "70000", "1e9", "\xff\xfe"])
def test_a_port_file_with_garbage_is_one_without_a_port(tmp_path, content):
    (tmp_path / "server.port").write_bytes(content.encode("latin-1"))

    port = choose_port(tmp_path, "server")

    assert port > 0
    assert (tmp_path / "server.port").read_text() == str(port)


def test_a_data_directory_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "file").touch()

    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(UsageError, match=r"cannot be used as the data directory .* STREAMREC_DATA_DIR"),
            local_stack(Settings(data_dir=directory), progress=False),
        ):
            pass


def test_with_addresses_of_ones_own_nothing_is_started(stack, postgres_url, tmp_path):
    settings = Settings(data_dir=tmp_path, **stack.settings.addresses() | {"postgres_url": postgres_url})
    with local_stack(settings, progress=False) as own:
        assert own.servers == {}
        assert own.broker == "external"
        assert own.settings.addresses() == settings.addresses()


def test_postgres_starts_again_at_once_after_it_was_killed(tmp_path):
    """What it was doing for its clients ends a moment later than the server itself."""
    with Guardian() as guardian:
        for _ in range(5):
            server = start_postgres(tmp_path, guardian)
            clients = [psycopg2.connect(server.address) for _ in range(20)]
            server.process.kill()
            server.process.wait()
            for client in clients:
                client.close()


def test_a_busy_port_is_no_error(tmp_path):
    port = choose_port(tmp_path, "server")
    assert choose_port(tmp_path, "server") == port
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", port))
        busy.listen()
        assert choose_port(tmp_path, "server") not in (0, port)


def test_a_preferred_port_is_taken_at_the_first_start_and_only_if_it_is_free(tmp_path):
    for directory in ("first", "second", "third"):
        (tmp_path / directory).mkdir()
    preferred = choose_port(tmp_path / "first", "server")
    assert choose_port(tmp_path / "second", "server", preferred=preferred) == preferred
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", preferred))
        busy.listen()
        other = choose_port(tmp_path / "third", "server", preferred=preferred)
        assert other not in (0, preferred)
    assert choose_port(tmp_path / "third", "server", preferred=preferred) == other


def test_servers_listen_on_the_ports_they_are_asked_for(tmp_path):
    fields = ("kafka", "redis_url", "postgres_url")
    ports = {field: choose_port(tmp_path, field) for field in fields}
    with local_stack(Settings(data_dir=tmp_path / "data"), progress=False, ports=ports) as stack:
        assert {field: server.port for field, server in stack.servers.items()} == ports


def test_nothing_is_left_behind_when_the_parent_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"up\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert {child.name() for child in children} >= {"java", "valkey-server", "postgres"}
    parent.kill()
    parent.wait()
    parent.stdout.close()

    _gone, alive = psutil.wait_procs(children, timeout=DEADLINE_S)
    assert alive == []


def test_where_jars_cannot_be_had_a_demo_goes_on_in_memory(tmp_path, stack, postgres_url, monkeypatch, capsys):
    def unavailable(**_):
        raise JarsUnavailableError("no Maven Central")

    monkeypatch.setattr("streamrec.local.kafka_broker.fetch_jars", unavailable)
    elsewhere = {"redis_url": stack.settings.addresses()["redis_url"], "postgres_url": postgres_url}
    settings = Settings(data_dir=tmp_path, **elsewhere)
    with local_stack(settings, progress=False, memory_broker_ok=True) as demo:
        assert demo.broker == "librdkafka-in-memory"
        producer = Producer({"bootstrap.servers": demo.settings.kafka})
        producer.produce("clicks", b"event")
        assert producer.flush(DEADLINE_S) == 0
        assert consume_one(demo.settings.kafka, "clicks") == b"event"
    assert capsys.readouterr().err.count("\n") == 1

    with pytest.raises(JarsUnavailableError), local_stack(settings, progress=False):
        pass


def test_another_jar_than_the_pinned_one_is_refused(tmp_path):
    jar = tmp_path / f"kafka_2.13-{kafka_jars.VERSION}.jar"
    jar.write_bytes(b"something else")
    with pytest.raises(StreamrecError, match="is not the pinned jar"):
        check_jars([jar])


def test_jars_that_no_cache_can_keep_are_an_error_that_says_what_to_set(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(kafka_jars, "CACHE", tmp_path / "file" / "kafka")
    with pytest.raises(StreamrecError, match="XDG_CACHE_HOME"):
        kafka_jars.fetch_jars(progress=False)


def test_a_broker_that_is_not_there_is_noticed():
    with pytest.raises(StreamrecError, match="is missing"):
        check_jars([])


def test_the_broker_starts_with_what_a_rehearsal_left(stack):
    broker = psutil.Process(stack.servers["kafka"].process.pid)
    assert any(Path(mapped.path).suffix == ".aot" for mapped in broker.memory_maps())


def test_a_rehearsal_that_fails_keeps_no_broker_from_starting(tmp_path):
    def start(_directory, _options):
        raise StreamrecError("it does not start")

    with capture_logs() as lines:
        assert quick_start(tmp_path / "a.aot", start, progress=False) == []
    assert [line["because"] for line in lines] == ["it does not start"]
    assert not list(tmp_path.glob("*.aot"))


def test_nothing_listens_beyond_loopback(stack):
    listening = [
        connection
        for server in stack.servers.values()
        for connection in psutil.Process(server.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4
    assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_topics_are_there_with_their_partitions(stack):
    topics = AdminClient({"bootstrap.servers": stack.settings.kafka}).list_topics(timeout=DEADLINE_S).topics
    assert {name: len(topics[name].partitions) for name in ("clicks", "purchases", "items", "clicks.dlq")} == {
        "clicks": 4,
        "purchases": 4,
        "items": 1,
        "clicks.dlq": 1,
    }
