"""What nobody reads, and what cannot be read, is named for what it is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import closing
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer
from kafka_double import Bad, ConsumerDouble, Log, with_topics
from kafka_topics import new_topic
from waiting import DEADLINE_S

from streamrec.adapters.kafka import broadcast
from streamrec.adapters.kafka.group_lag import GroupLag, Lag
from streamrec.adapters.kafka.lag import LagReader
from streamrec.adapters.kafka.model_versions import read_model_versions
from streamrec.adapters.kafka.offsets import Partitions
from streamrec.contracts.model_version import ModelVersions
from streamrec.kafka_access import KafkaAccess
from streamrec.monitor import monitor as monitors
from streamrec.monitor.groups import GroupWatch
from streamrec.monitor.monitor import Monitor
from streamrec.monitor.observation import Observation
from streamrec.service.batch import TopicPartition
from streamrec.settings import Settings

SOURCE = TopicPartition("model-versions", 0)
NEWEST = ModelVersions(versions=[], refused=3, rolled_back=1, drifts=0)
GARBAGE = {
    0: b"garbage",
    1: msgspec.json.encode(NEWEST),
    2: bytes(range(256)),
    3: msgspec.json.encode(msgspec.to_builtins(NEWEST) | {"refused": 2**60}),
    4: b"[" * 100_000,
}


@pytest.fixture
def versions(monkeypatch):
    double = ConsumerDouble({SOURCE: Log(9, [Bad(6, 7)], values=dict.fromkeys(range(9), b"{}") | GARBAGE)})
    double.list_topics = with_topics("model-versions")
    monkeypatch.setattr(broadcast, "Consumer", lambda _config: double)
    return double


def test_garbage_on_model_versions_is_passed_over_and_counted(versions):
    refused = Counter()

    assert read_model_versions(KafkaAccess("127.0.0.1:1"), refused) == NEWEST
    assert refused == {
        ("model-versions", "bad-json"): 2,
        ("model-versions", "wrong-type"): 1,
        ("model-versions", "bad-value"): 1,
        ("model-versions", "missing-field"): 2,
        ("model-versions", "unreadable"): 1,
    }
    assert versions.closed


@pytest.mark.usefixtures("versions")
def test_the_monitor_blames_no_server_for_garbage_on_model_versions(monkeypatch, tmp_path):
    partitions = Partitions({"model-versions": 1})
    lag = Lag(0, partitions, np.zeros(1, int), np.full(1, 9))
    monitor = Monitor(Settings(kafka="127.0.0.1:1", data_dir=tmp_path))
    reads = []
    monkeypatch.setattr(monitors, "read_model_versions", lambda *args: reads.append(1) or read_model_versions(*args))
    for _ in range(3):
        asyncio.run(monitor._look_at_versions(lag))

    assert (monitor.now.versions, monitor.now.faults) == (NEWEST, {})
    assert monitor.now.unreadable.total() == 7
    assert len(reads) == 1, "what has not changed is not read again"


def test_a_partition_that_no_member_is_assigned_is_a_cause():
    partitions = Partitions({"clicks": 2, "purchases": 2})
    zeros, nines = np.zeros(4, int), np.full(4, 9)
    lag = Lag(0, partitions, zeros, nines)
    for unassigned in ([], [TopicPartition("clicks", 1)], partitions.sources[:2]):
        lag.groups["streamrec-interests"] = GroupLag(np.arange(4), nines, zeros, nines, np.full(4, -1), 1, unassigned)
        now = Observation(10.0, lag=lag, groups=GroupWatch().look(lag, 0.0), read_s=time.monotonic())
        texts = [cause.text for cause in now.causes if cause.name == "unassigned"]
        which = {0: None, 1: "clicks:1", 2: "clicks:0 and 1 more partitions"}[len(unassigned)]
        assert texts == ([f"streamrec-interests does not read {which}: no member is assigned them"] if which else [])


def test_the_broker_tells_which_partitions_no_member_reads(kafka):
    group = f"test-{uuid4().hex[:12]}"
    with (
        new_topic(kafka.bootstrap, partitions=2) as read,
        new_topic(kafka.bootstrap, partitions=2) as unread,
        closing(Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})) as consumer,
    ):
        consumer.subscribe([read])

        async def look():
            reader = LagReader(kafka, {group: [read, unread]})
            try:
                return (await reader.read()).groups[group].unassigned
            finally:
                await reader.close()

        end_s = time.monotonic() + DEADLINE_S
        while not (found := asyncio.run(look())):
            assert time.monotonic() < end_s
            consumer.poll(0.2)
        assert found == [TopicPartition(unread, 0), TopicPartition(unread, 1)]
