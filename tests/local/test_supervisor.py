"""What a supervisor keeps running: workers and servers alike, where they were, and without haste while they fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import psycopg2
import pytest
import redis
from confluent_kafka import Consumer, Producer
from waiting import DEADLINE_S, wait

from streamrec.errors import StreamrecError
from streamrec.local import Supervisor, local_stack
from streamrec.local.guardian import Guardian
from streamrec.local.supervisor import MAX_BACKOFF_S, _backoff_s, _log_names
from streamrec.metrics import Endpoint, announced
from streamrec.running import restarts_of
from streamrec.settings import Settings

SLEEP = "import time; time.sleep(600)"


def lines(directory):
    log = directory / "supervisor.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Run servers of our own, which tests kill, under a supervisor."""
    directory = tmp_path_factory.mktemp("kept")
    with local_stack(Settings(data_dir=directory), progress=False) as stack, Supervisor(stack, directory / "logs", ()):
        yield stack


def kill(stack, name):
    """Kill a server, and wait until another process serves in its place."""
    died = stack.servers[name]
    died.process.kill()
    wait(lambda: stack.servers[name] is not died, f"another {died.name}")
    assert stack.servers[name].address == died.address
    assert stack.servers[name].process.pid != died.process.pid
    told = [line for line in lines(stack.settings.data_dir / "logs") if line["event"].startswith(died.name)]
    assert "signal 9" in told[-1]["because"]
    assert restarts_of(stack.settings.data_dir)[died.name] == told[-1]["restarts"] == len(told)


def test_a_valkey_that_died_is_started_again_on_what_it_left(kept):
    with redis.Redis.from_url(kept.settings.require_redis_url()) as client:
        client.set("key", "value")
        assert client.waitaof(1, 0, int(DEADLINE_S * 1_000))[0] == 1, "its file is flushed every second"
        for _ in range(2):
            kill(kept, "redis_url")
            assert client.get("key") == b"value"


def test_a_postgresql_that_died_is_started_again_on_what_it_left(kept):
    url = kept.settings.require_postgres_url()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 1 AS one")
    kill(kept, "postgres_url")
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT one FROM kept")
        assert cursor.fetchone() == (1,)


def test_a_kafka_that_died_is_started_again_on_what_it_left(kept):
    address = kept.settings.kafka
    producer = Producer({"bootstrap.servers": address})
    producer.produce("clicks", b"event")
    assert producer.flush(DEADLINE_S) == 0
    kill(kept, "kafka")
    consumer = Consumer({"bootstrap.servers": address, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe(["clicks"])
    assert consumer.poll(DEADLINE_S).value() == b"event"
    consumer.close()


class FakeStack:
    """A stack of one process, which is started as often as it is told to fail."""

    def __init__(self, failures=()):
        self.settings = SimpleNamespace(environment=dict, kafka=None)
        self.durable = ["redis_url"]
        self.failures = list(failures)
        self.told = []
        self.starts = 0
        self.announcement = SimpleNamespace(tell=lambda counts: self.told.append(dict(counts)))
        self.guardian = SimpleNamespace(bound=lambda _log: None)
        self.servers = {}
        self.launch()

    def launch(self):
        process = subprocess.Popen([sys.executable, "-c", SLEEP])
        self.servers["redis_url"] = SimpleNamespace(name="valkey", process=process)

    def start(self, _name):
        self.starts += 1
        if self.failures:
            raise self.failures.pop(0)
        self.launch()

    def end(self):
        process = self.servers["redis_url"].process
        process.kill()
        process.wait()


def test_a_server_that_cannot_be_started_is_tried_again(tmp_path):
    stack = FakeStack([StreamrecError("its port is taken"), OSError("no space left on device")])
    with Supervisor(stack, tmp_path, ()) as supervisor:
        stack.end()
        wait(lambda: stack.starts == 3, "the third try")
        wait(lambda: stack.servers["redis_url"].process.poll() is None, "a server that runs")
        assert supervisor.restarts == 1, "a start that failed is no restart"
    stack.end()

    said = [(line["level"], line["because"]) for line in lines(tmp_path)]
    assert ("error", "its port is taken") in said
    assert ("error", "no space left on device") in said
    assert stack.told == [{"valkey": 1}]


def test_supervision_outlives_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "supervisor.log").mkdir()
    stack = FakeStack()
    stack.announcement.tell = lambda _counts: (_ for _ in ()).throw(OSError("no space left on device"))
    with Supervisor(stack, tmp_path, ()):
        stack.end()
        wait(lambda: stack.servers["redis_url"].process.poll() is None, "a server that runs")
    stack.end()


def test_waits_grow_to_a_bound_however_long_it_fails():
    assert _backoff_s(0) == 0.0
    assert _backoff_s(1) < _backoff_s(2) < MAX_BACKOFF_S
    assert _backoff_s(5_000) == MAX_BACKOFF_S


def test_each_process_has_a_log_of_its_own():
    assert _log_names(["recall", "trainer", "recall"]) == ["recall-1", "trainer", "recall-2"]


def test_a_worker_that_dies_is_logged_where_it_wrote_before(tmp_path):
    stack = FakeStack()
    stack.durable = []
    with Guardian() as guardian:
        stack.guardian = guardian
        stack.settings.environment = lambda: {"STREAMREC_TOP_K": "none"}
        with Supervisor(stack, tmp_path / "logs", ("interests", "interests")) as supervisor:
            wait(lambda: supervisor.restarts >= 3, "restarts")
    stack.end()

    for name in ("interests-1.log", "interests-2.log"):
        assert "STREAMREC_TOP_K" in (tmp_path / "logs" / name).read_text()


def test_workers_are_waited_for_until_they_have_begun(tmp_path, monkeypatch):
    monkeypatch.setattr("streamrec.local.supervisor.PATIENCE_S", 0.0)
    stack, said = FakeStack(), []
    stack.durable = []
    stack.settings = Settings(data_dir=tmp_path)
    stack.guardian.spawn = lambda *_args, **_others: subprocess.Popen([sys.executable, "-c", SLEEP])
    with ExitStack() as announcements, Supervisor(stack, tmp_path / "logs", ("recall", "trainer")) as supervisor:

        def say(line):
            said.append(line)
            for worker in ("recall", "trainer"):  # this process stands for both
                announcements.enter_context(announced(stack.settings, Endpoint(worker, "127.0.0.1", 1)))

        supervisor.wait_until_started(say)
    stack.end()

    assert len(said) == 1
    assert "still starting: recall, trainer" in said[0]


def test_workers_that_keep_dying_are_not_waited_for(tmp_path):
    stack = FakeStack()
    stack.durable = []
    stack.settings = Settings(data_dir=tmp_path)
    stack.guardian.spawn = lambda *_args, **_others: subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    with Supervisor(stack, tmp_path / "logs", ("recall",)) as supervisor, pytest.raises(StreamrecError, match="recall"):
        supervisor.wait_until_started(lambda _line: None)
    stack.end()


def test_a_stopped_supervisor_stops_nobody(kept):
    """Ctrl-Z reaches the foreground group of the terminal, in which no server is."""
    foreground = os.getpgid(0)
    assert all(os.getpgid(server.process.pid) != foreground for server in kept.servers.values())
    assert signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL
