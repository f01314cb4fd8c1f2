"""Status, probe, page and alerts agree with each other and with what a consumer can read, whatever happens."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from waiting import DEADLINE_S, wait

from streamrec.adapters.kafka import BatchSource, members
from streamrec.adapters.kafka.admin import create_topics
from streamrec.adapters.kafka.lag import GROUPS, read_lag
from streamrec.contracts.topics import CLICKS, PURCHASES
from streamrec.metrics import PAUSED, WAITING, exported, standstill
from streamrec.monitor import monitor as monitors
from streamrec.monitor.look import look_once
from streamrec.monitor.monitor import Monitor
from streamrec.monitor.web import Site, make_app
from streamrec.settings import Settings

LIMIT_S = 3 * DEADLINE_S
OLD_S = 10 * LIMIT_S
PARTITIONS = 2
INSTANTS = 20
OURS = "streamrec-interests"

RULES = [
    rule["expr"]
    for group in yaml.safe_load((Path(__file__).parents[2] / "monitoring" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
SELECTOR = re.compile(r'streamrec_cause\{cause(=~|!~|=)"([^"]+)"\} == 1')


class Reader(threading.Thread):
    """A worker without work: it reads what its group reads, and keeps positions as a store does."""

    def __init__(self, kafka, group):
        super().__init__()
        self.kafka, self.group, self.store = kafka, group, {}
        self.held, self.rests, self.stopping = threading.Event(), threading.Event(), threading.Event()

    def run(self):
        source = BatchSource(kafka=self.kafka, group=self.group, topics=GROUPS[self.group], positions=self.positions)
        while not self.stopping.is_set():
            if self.held.is_set():
                source.keep_alive()
                self.rests.set()
                time.sleep(0.02)
                continue
            batch = source.poll(0.1)
            if batch is not None:
                self.store |= {part.source: part.next for part in batch.slices}
            source.settle(dict.fromkeys(source.sources, 0) | self.positions(source.sources))
        source.close()

    def positions(self, sources):
        return {source: self.store[source] for source in sources if source in self.store}


class World:
    """A pipeline whose readers, producers and workers' words a test has in its hands."""

    def __init__(self, settings):
        self.settings, self.kafka = settings, settings.require_kafka()
        create_topics(self.kafka, PARTITIONS, 1)
        self.readers = {group: Reader(self.kafka, group) for group in GROUPS}
        bootstrap = {"bootstrap.servers": self.kafka.bootstrap}
        self.plain = Producer(bootstrap)
        self.transactional = Producer(bootstrap | {"transactional.id": uuid4().hex})
        self.transactional.init_transactions(DEADLINE_S)
        self.said = ExitStack()
        self.consumers = {}

    def __enter__(self):
        for reader in self.readers.values():
            reader.start()
        return self

    def __exit__(self, *_):
        self.said.close()
        for reader in self.readers.values():
            reader.stopping.set()
        for reader in self.readers.values():
            reader.join()
        for consumer in self.consumers.values():
            consumer.close()

    def write(self, producer, count, *, age_s=0.0, topic=CLICKS):
        at_ms = int((time.time() - age_s) * 1_000)
        for n in range(count):
            producer.produce(self.kafka.on_broker(topic), b"v", partition=n % PARTITIONS, timestamp=at_ms)
        assert producer.flush(DEADLINE_S) == 0

    def produce(self, count, **options):
        self.write(self.plain, count, **options)

    def begin(self, count, **options):
        self.transactional.begin_transaction()
        self.write(self.transactional, count, **options)

    def commit(self):
        self.transactional.commit_transaction(DEADLINE_S)
        self.until_stable()

    def abort(self):
        self.transactional.abort_transaction(DEADLINE_S)
        self.until_stable()

    def until_stable(self):
        """Wait for the markers: the coordinator answers before it has written them."""
        levels = [
            Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": "none", "isolation.level": level})
            for level in ("read_committed", "read_uncommitted")
        ]
        for topic in (CLICKS, PURCHASES):
            for number in range(PARTITIONS):
                place = KafkaPartition(self.kafka.on_broker(topic), number)
                wait(lambda place=place: len({each.get_watermark_offsets(place) for each in levels}) == 1, "markers")
        for each in levels:
            each.close()

    def hold(self):
        reader = self.readers[OURS]
        reader.rests.clear()
        reader.held.set()
        assert reader.rests.wait(DEADLINE_S)

    def release(self):
        self.readers[OURS].held.clear()

    def until_handled(self):
        """Wait until all that may move has come to its end."""
        moving = {group: GROUPS[group] for group, reader in self.readers.items() if not reader.held.is_set()}
        wait(lambda: not sum(part.lag for part in read_lag(self.kafka, moving)), "the readers")

    def empty_the_store(self):
        reader = self.readers[OURS]
        before = reader.store
        reader.store = {}
        wait(lambda: reader.store == before, "all to be read again")

    def say(self, kind, because):
        self.said.enter_context(standstill().of(kind))(because)

    def fall_silent(self):
        self.said.close()

    def readable(self, group):
        """Return how many records a consumer can read from the group's positions on, and the age of the oldest."""
        if group not in self.consumers:
            self.consumers[group] = Consumer(
                {
                    "bootstrap.servers": self.kafka.bootstrap,
                    "group.id": self.kafka.on_broker(group),
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "isolation.level": "read_committed",
                    "fetch.wait.max.ms": 10,
                }
            )
        consumer = self.consumers[group]
        topics = map(self.kafka.on_broker, GROUPS[group])
        places = [KafkaPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        committed = consumer.committed(places)
        consumer.assign([KafkaPartition(place.topic, place.partition, max(0, place.offset)) for place in committed])
        times, ends, until_s = [], 0, time.monotonic() + DEADLINE_S
        while ends < len(places):
            assert time.monotonic() < until_s
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                times.append(message.timestamp()[1])
            elif message is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF
                ends += 1
        consumer.unassign()
        return len(times), max(0.0, time.time() - min(times) / 1_000) if times else 0.0


def steps(world):
    """Yield after each change, with the kinds of causes that it makes."""
    wait(lambda: all(group.members for group in look_once(world.settings).groups), "the members")
    yield from transactions(world)
    yield from transactions_before_a_worker_that_is_held_up(world)
    yield from standstills(world)


def transactions(world):
    yield set()
    world.produce(6, age_s=OLD_S)
    yield set()
    world.begin(6)
    yield set()
    world.commit()
    yield set()
    world.begin(6, age_s=OLD_S)
    yield {"open-transaction"}
    world.produce(4, age_s=OLD_S)
    yield {"open-transaction"}
    world.abort()
    yield set()
    world.begin(4, topic=PURCHASES)
    world.abort()
    yield set()


def transactions_before_a_worker_that_is_held_up(world):
    world.hold()
    yield set()
    world.begin(8, age_s=OLD_S)
    world.abort()
    yield set()
    world.produce(2)
    yield set()
    world.release()
    yield set()
    world.hold()
    world.begin(3, age_s=OLD_S)
    yield {"open-transaction"}
    world.commit()
    yield {"behind"}


def standstills(world):
    world.say(PAUSED, "600 of the last 1000 records were refused, the last one because: \x1b[2J<b>")
    yield {"behind", "paused"}
    world.release()
    yield {"paused"}
    world.fall_silent()
    yield set()
    world.say(WAITING, "Redis: READONLY You can't write against a read only replica.")
    yield set()
    world.begin(3, age_s=OLD_S, topic=PURCHASES)
    world.commit()
    yield set()
    world.fall_silent()
    world.empty_the_store()
    yield set()
    world.hold()
    world.begin(2, age_s=OLD_S)
    world.commit()
    world.produce(5)
    yield {"behind"}
    world.release()
    yield set()


def samples_of(text):
    """Return the samples of some metrics in the text format, by name and labels."""
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def alerts_of(samples):
    """Return the causes of all alerts that fire, once they have lasted."""
    firing = set()
    for operator, pattern in (found for rule in RULES for found in SELECTOR.findall(rule)):
        for sample, value in samples.items():
            found = re.fullmatch(r'streamrec_cause\{cause="(.*)",subject="(.*)"\}', sample)
            if found and float(value) == 1 and bool(re.fullmatch(pattern, found[1])) != (operator == "!~"):
                firing.add((found[1], found[2]))
    return firing


async def told(client, monitor):
    """Return what probe, page and metrics say of one look that began after now."""
    async with monitor.looked:
        await monitor.looked.wait()
        await monitor.looked.wait()
    while True:
        looks = monitor.now.looks
        probe = await (await client.get("/readyz")).json()
        page = unescape(await (await client.get("/")).text())
        samples = samples_of(await (await client.get("/metrics")).text())
        if monitor.now.looks == looks:
            return probe, page, samples


def compare(world, expected, seen, probe, page, samples):
    """Compare what everybody says with what the test did and with what a consumer can read."""
    named = {(cause["name"], cause["subject"]) for cause in probe["details"]}
    assert {name for name, _ in named} == expected
    assert {(cause.name, cause.subject) for cause in seen.causes} == named
    assert alerts_of(samples) == named
    assert probe["ready"] == (not named) == (samples["streamrec_ready"] == "1.0")
    assert ("Not healthy" in page) == bool(named)
    for cause in probe["causes"]:
        assert cause in page
    for group in seen.groups:
        count, age_s = world.readable(group.name)
        assert (group.lag == 0) == (count == 0), group
        assert group.lag >= count
        assert group.behind_s == pytest.approx(age_s, abs=DEADLINE_S)
        assert ((group.behind_s or 0) > LIMIT_S) == (("behind", group.name) in named)
        lags = [
            int(value)
            for sample, value in samples.items()
            if sample.startswith(f'kafka_consumergroup_lag{{consumergroup="{group.name}"')
        ]
        assert sum(lags) == group.lag


async def follow(world, settings):
    monitor = Monitor(settings)
    looking = asyncio.create_task(monitor.run())
    instants = 0
    async with TestClient(TestServer(make_app(settings, Site(settings, monitor)))) as client:
        changes = steps(world)
        while (expected := await asyncio.to_thread(next, changes, None)) is not None:
            await asyncio.to_thread(world.until_handled)
            probe, page, samples = await told(client, monitor)
            seen = await asyncio.to_thread(look_once, settings)
            await asyncio.to_thread(compare, world, expected, seen, probe, page, samples)
            instants += 1
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    return instants


def test_whoever_is_asked_says_the_same_and_a_consumer_agrees(stack, redis_url, tmp_path, monkeypatch):
    monkeypatch.setattr(monitors, "LOOK_S", 0.2)
    monkeypatch.setattr(members, "MEMBERS_AGE_S", 0.0)
    settings = Settings(
        kafka=stack.settings.kafka,
        redis_url=redis_url,
        data_dir=tmp_path,
        installation=f"truth{uuid4().hex[:8]}",
        lag_limit_s=LIMIT_S,
        metrics_port=0,
    )
    with World(settings) as world, exported(settings, "interests"):
        assert asyncio.run(follow(world, settings)) >= INSTANTS
