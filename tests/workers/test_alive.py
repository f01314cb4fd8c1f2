"""A container's health is its worker's place in the group."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from uuid import uuid4

import pytest
import tenacity
from confluent_kafka import Consumer
from waiting import DEADLINE_S

from streamrec.adapters.kafka.members import member_hosts
from streamrec.errors import TransientError
from streamrec.settings import Settings
from workers.alive import alive, main, own_worker


@pytest.fixture
def worker():
    return f"test-{uuid4().hex}"


when_loaded = tenacity.Retrying(
    # a broker that has just started loads its groups first
    retry=tenacity.retry_if_exception_type(TransientError),
    wait=tenacity.wait_fixed(0.1),
    stop=tenacity.stop_after_delay(DEADLINE_S),
)


def test_worker_is_alive_while_it_is_a_member_of_its_group(kafka_bootstrap, worker):
    settings = Settings(kafka=kafka_bootstrap)
    assert not when_loaded(alive, settings, worker, "127.0.0.1")

    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": f"streamrec-{worker}"})
    consumer.subscribe(["clicks"])
    end_s = time.monotonic() + DEADLINE_S
    while not consumer.assignment() and time.monotonic() < end_s:
        consumer.poll(0.2)
    assert when_loaded(alive, settings, worker, "127.0.0.1")
    assert not alive(settings, worker, "10.0.0.1")

    consumer.close()
    assert member_hosts(settings.require_kafka(), f"streamrec-{worker}") == set()


@pytest.mark.parametrize(
    ("command", "worker"),
    [
        (["/opt/streamrec/bin/python", "/opt/streamrec/bin/streamrec", "worker", "recall"], "recall"),
        (["/sbin/docker-init", "--", "sh", "-c", "exec streamrec", "streamrec", "worker", "monitor"], "monitor"),
        (["/opt/streamrec/bin/python", "/opt/streamrec/bin/streamrec", "demo", "--attach"], None),
    ],
)
def test_container_knows_its_worker_by_its_first_process(tmp_path, command, worker):
    file = tmp_path / "cmdline"
    file.write_text("".join(f"{word}\0" for word in command))
    assert own_worker(file) == worker


class Monitor(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_monitor_is_alive_while_it_answers(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Monitor) as server:
        monkeypatch.setenv("STREAMREC_MONITOR_PORT", str(server.server_port))
        Thread(target=server.handle_request, daemon=True).start()
        assert main(["monitor"]) == 0
    assert main(["monitor"]) == 1
