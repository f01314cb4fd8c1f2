"""A worker on secured servers does its work, waits where it is refused, and logs no secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

from secured import KEY_PASSWORD, PASSWORD

from streamrec.adapters.kafka import KafkaPublisher, create_topics
from streamrec.adapters.redis import RedisInterestStore
from streamrec.service.ports import Outgoing

DEADLINE_S = 60.0
WRONG = "wr0ng-s3cr3t"


@contextmanager
def worker(settings, log):
    """Run `interests` with all that it says in a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamrec", "worker", "interests"],
            env=os.environ | settings.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    yield process
    process.kill()
    process.wait()


def wait(condition, what, log):
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, f"waited for {what}: {log.read_text()[-3000:]}"
        time.sleep(0.05)


def test_a_worker_on_secured_servers(kafka_settings, rediss_url, tmp_path):
    right = kafka_settings("SASL_SSL", redis_url=rediss_url, data_dir=tmp_path, log_level="DEBUG")
    wrong = kafka_settings("SASL_SSL", redis_url=rediss_url, data_dir=tmp_path, kafka_password=WRONG)
    create_topics(right.require_kafka(), 2, 1)
    click = {"user_id": "u1", "item_id": "i1", "event_time_ms": time.time_ns() // 1_000_000}
    KafkaPublisher(right.require_kafka()).publish([Outgoing("clicks", b"u1", json.dumps(click).encode())])
    store = RedisInterestStore(rediss_url, state_ttl_days=1)
    works, waits = tmp_path / "works.log", tmp_path / "waits.log"
    with worker(right, works), worker(wrong, waits) as refused:
        wait(lambda: store.load(["u1"], []).states["u1"].sequence, "the state", works)
        wait(lambda: "Authentication failed" in waits.read_text(), "the refusal", waits)
        assert refused.poll() is None

    said = works.read_text() + waits.read_text()
    assert "assigned" in said
    assert not [secret for secret in (PASSWORD, WRONG, KEY_PASSWORD) if secret in said]
