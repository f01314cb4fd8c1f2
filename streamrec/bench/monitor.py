"""Cost of the monitor on a large cluster, with real topics, lagging groups, and the real process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from urllib.request import urlopen

import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from msgspec import Struct

from streamrec.adapters.kafka.client import client_config
from streamrec.errors import StreamrecError
from streamrec.kafka_access import KafkaAccess
from streamrec.metrics import find_endpoints
from streamrec.settings import Settings

TOPICS_AT_A_TIME = 5
RECORDS = 3
"""Records per partition; every group has read the first one."""

SCRAPE_S = 15.0
"""The scrape interval in `docker-compose.yml`."""

FIRST_LOOKS = 10

_TIMEOUT_S = 180.0

T = TypeVar("T")


class MonitorCost(Struct, frozen=True, kw_only=True):
    """Resources used by the monitor.

    `cores` is the CPU time of all its threads over the elapsed time, `scrape_cores` the part used for answering
    Prometheus, `look_s` the interval between polls, and `rss_mb` the peak memory.
    """

    groups: int
    topics: int
    partitions: int
    seconds: float
    look_s: float
    cores: float
    scrape_cores: float
    rss_mb: float


def fill(kafka: KafkaAccess, *, groups: int, topics: int, partitions: int, report: Callable[[int], None]) -> None:
    """Create topics with records, and groups that have read the first record of each partition.

    Parameters
    ----------
    report
        Called with the number of completed groups.
    """
    names = [f"topic-{n}" for n in range(topics)]
    admin = AdminClient(client_config(kafka))
    for first in range(0, topics, TOPICS_AT_A_TIME):
        some = [NewTopic(name, partitions, 1) for name in names[first : first + TOPICS_AT_A_TIME]]
        for made in admin.create_topics(some).values():
            made.result(_TIMEOUT_S)
    producer = Producer(client_config(kafka))
    for name in names:
        for partition in range(partitions):
            for _ in range(RECORDS):
                producer.produce(name, b"x" * 100, partition=partition)
        if producer.flush(_TIMEOUT_S):
            raise StreamrecError("the broker did not accept all records")
    for number in range(groups):
        commit(kafka, f"group-{number}", dict.fromkeys(names, partitions), 1)
        report(number + 1)


def commit(kafka: KafkaAccess, group: str, topics: Mapping[str, int], offset: int) -> None:
    """Commit an offset of a group in all partitions of topics."""
    consumer = Consumer(client_config(kafka) | {"group.id": group})
    for topic, partitions in topics.items():
        places = [KafkaPartition(topic, partition, offset) for partition in range(partitions)]
        consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def measure(settings: Settings, *, groups: int, topics: int, partitions: int, seconds: float) -> MonitorCost:
    """Run the monitor, and return its resource use after the warm-up."""
    with _running(settings) as (process, url):
        before = _wait_for_first_looks(url)
        cpu_s, begun_s = _cpu_s(process), time.monotonic()
        scraped_s, scrape_cpu_s, rss = begun_s, 0.0, 0
        while (now_s := time.monotonic()) < begun_s + seconds:
            turn = int(now_s)  # move some positions
            topic = {f"topic-{turn % topics}": partitions}
            commit(settings.require_kafka(), f"group-{turn % groups}", topic, 1 + turn % 2)
            if now_s - scraped_s >= SCRAPE_S:
                scraped_s, at_s = now_s, _cpu_s(process)
                _read(url, "/metrics")
                scrape_cpu_s += _cpu_s(process) - at_s
            rss = max(rss, process.memory_info().rss)
            time.sleep(0.5)
        took_s, used_s = time.monotonic() - begun_s, _cpu_s(process) - cpu_s
        return MonitorCost(
            groups=groups,
            topics=topics,
            partitions=partitions,
            seconds=round(took_s, 1),
            look_s=round(took_s / max(1.0, _looks(url) - before), 2),
            cores=round(used_s / took_s, 4),
            scrape_cores=round(scrape_cpu_s / took_s, 4),
            rss_mb=round(rss / (1 << 20), 1),
        )


@contextmanager
def _running(settings: Settings) -> Iterator[tuple[psutil.Process, str]]:
    environment = {**os.environ, **settings.environment()}
    process = subprocess.Popen([sys.executable, "-m", "streamrec", "worker", "monitor"], env=environment)
    try:
        endpoint = _wait(lambda: next(iter(find_endpoints(settings)), None), "the monitor")
        yield psutil.Process(process.pid), f"http://{endpoint.host}:{endpoint.port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for_first_looks(url: str) -> float:
    """Wait until start-up work is done, and return the number of polls."""
    return _wait(lambda: looks if (looks := _looks(url)) > FIRST_LOOKS else None, "the first polls")


def _looks(url: str) -> float:
    found = [line for line in _read(url, "/metrics").splitlines() if line.startswith("streamrec_looks_total ")]
    return float(found[0].split()[1]) if found else 0.0


def _read(url: str, path: str) -> str:
    with urlopen(url + path) as answer:  # noqa: S310  # our own address
        text: str = answer.read().decode()
    return text


def _wait(condition: Callable[[], T | None], what: str) -> T:
    end_s = time.monotonic() + _TIMEOUT_S
    while (value := condition()) is None:
        if time.monotonic() > end_s:
            raise StreamrecError(f"waited {_TIMEOUT_S:.0f} s for {what}")
        time.sleep(0.2)
    return value


def _cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))
