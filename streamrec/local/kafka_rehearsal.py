"""A rehearsal of Apache Kafka: a briefly used broker creates an archive that later ones start from.

It contains loaded, linked and profiled classes (JEP 483, 514 and 515), which halves the duration of each start.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from filelock import FileLock

from streamrec.errors import StreamrecError
from streamrec.local.server import Server
from streamrec.local.terminal import TERMINAL

REHEARSAL_S = 5.0
"""Duration of use, sufficient to profile the hot code."""

_LEAVE_S = 120.0

_log = structlog.get_logger(__name__)

Start = Callable[[Path, list[str]], Server]
"""Starts a broker in a directory with additional JVM options."""


def quick_start(archive: Path, start: Start, *, progress: bool) -> list[str]:
    """Return the JVM options for a quick start, after a rehearsal if there was none yet.

    Empty if the rehearsal fails: the broker also starts without.

    Parameters
    ----------
    archive
        Path of the archive.
    """
    with FileLock(f"{archive}.lock"):  # a second process need not rehearse
        if not archive.exists():
            try:
                _rehearse(archive, start, progress=progress)
            except (StreamrecError, KafkaException, OSError, subprocess.TimeoutExpired) as error:
                _log.warning("rehearsal failed", because=str(error), instead="the broker starts in twice the time")
                return []
    return [f"-XX:AOTCache={archive}"]


def _rehearse(archive: Path, start: Start, *, progress: bool) -> None:
    status = TERMINAL.status("Apache Kafka: preparing quick starts, once") if progress else nullcontext()
    with TemporaryDirectory(dir=archive.parent, ignore_cleanup_errors=True) as name, status:
        directory = Path(name)
        left = directory / archive.name
        broker = start(directory, [f"-XX:AOTCacheOutput={left}"])
        try:
            _use(broker.address)
            broker.process.terminate()
            broker.process.wait(_LEAVE_S)
        finally:
            broker.process.kill()
        left.rename(archive)


def _use(address: str) -> None:
    """Write and read records in small batches."""
    topic = "rehearsal"
    # clients' errors while the broker starts are irrelevant
    quiet: dict[str, str | int | float | bool] = {"bootstrap.servers": address, "log_level": 0}
    admin = AdminClient(quiet)
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(_LEAVE_S)
    producer = Producer(quiet | {"enable.idempotence": True})
    consumer = Consumer(quiet | {"group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    end_s = time.monotonic() + REHEARSAL_S
    while time.monotonic() < end_s:
        for _ in range(5):
            producer.produce(topic, bytes(200), key=uuid.uuid4().bytes)
        producer.poll(0)
        consumer.consume(100, 0.01)
    producer.flush(_LEAVE_S)
    consumer.close()
