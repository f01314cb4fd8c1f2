"""A rehearsal of Apache Kafka: a broker that is used for a moment leaves its successors what they start with.

That is its classes loaded, linked and profiled (JEP 483, 514 and 515), which halves the time that each start takes.
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
"""How long the broker is used: the most used code is known by then."""

_LEAVE_S = 120.0

_log = structlog.get_logger(__name__)

Start = Callable[[Path, list[str]], Server]
"""Starts a broker in a directory, with further options of the virtual machine."""


def quick_start(archive: Path, start: Start, *, progress: bool) -> list[str]:
    """Return the options that make a broker start quickly, after a rehearsal if none was held yet.

    None if the rehearsal fails: a broker starts without, too.

    Parameters
    ----------
    archive
        What a rehearsal leaves, and where.
    """
    with FileLock(f"{archive}.lock"):  # who comes second need not rehearse
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
    """Write and read a few records at a time."""
    topic = "rehearsal"
    # what a client reports while the broker settles concerns nobody
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
