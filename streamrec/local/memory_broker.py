"""librdkafka's in-memory broker in a separate process, for demos if Apache Kafka's jars cannot be downloaded.

Data is lost with the process, a partition keeps at most 5 MB, topics have four partitions, and an idle consumer notices
a record up to 0.5 s late.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from confluent_kafka import Producer

from streamrec.contracts.topics import TOPICS
from streamrec.local.guardian import Guardian
from streamrec.local.server import Server, wait_until

NAME = "librdkafka-in-memory"

_PROGRAM = f"from {__name__} import serve; serve()"


def start_memory_broker(directory: Path, guardian: Guardian) -> Server:
    """Start the broker with the topics of streamrec."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "memory-broker.log"
    log.unlink(missing_ok=True)  # only output of this start is read below
    process = guardian.spawn([sys.executable, "-c", _PROGRAM], log=log)
    wait_until(lambda: log.read_text().endswith("\n"), process, name="the in-memory broker", log=log)
    return Server(NAME, log.read_text().split()[-1], process)


def serve() -> None:
    """Print the address, and serve until a signal arrives."""
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    # the broker lives inside this client
    producer = Producer({"bootstrap.servers": "in-memory", "test.mock.num.brokers": 1, "log_level": 0})
    for topic in TOPICS:
        producer.list_topics(topic.name, timeout=10)  # creates the topic
    brokers = producer.list_topics(timeout=10).brokers.values()
    sys.stdout.write(",".join(f"{broker.host}:{broker.port}" for broker in brokers) + "\n")
    sys.stdout.flush()
    signal.sigwait(stop_signals)
