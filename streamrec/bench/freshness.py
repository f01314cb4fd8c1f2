"""Freshness under load: from the instant an event is due to the list that knows of it, and where the time goes.

Arrivals are a Poisson process that does not wait for the pipeline, and latency counts from when an event was due, so
that a stall is not left out of the figures. Every event counts, those too whose list was made together with that of a
later one.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field

import msgspec
import numpy as np
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import client_config, to_record
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of
from streamrec.adapters.redis.client import connect
from streamrec.adapters.redis.keys import Keys
from streamrec.bench.population import Population, item_name, user_name
from streamrec.contracts.decode import decode_own
from streamrec.contracts.incoming import Click
from streamrec.contracts.topics import CLICKS, RECOMMENDATIONS, USER_INTERESTS
from streamrec.errors import BadRecordError, StreamrecError
from streamrec.playback.records import event_record
from streamrec.settings import Settings

ARRIVAL_S = 30.0
"""A list that has not come so long after the last event never will."""

_POLL_S = 0.2
_PATIENCE_MS = {USER_INTERESTS: 500, RECOMMENDATIONS: 0}


class Known(msgspec.Struct):
    """What is read of an interest or a list: whose it is and up to which event it knows."""

    user_id: str
    produced_at_ms: int


@dataclass(slots=True)
class Sent:
    """An event that was sent."""

    user_id: str
    due_s: float
    sent_s: float
    sent_ms: int


class Arrivals:
    """Notes when interests and lists arrive: on Kafka, and lists in Redis as a reader could have seen them.

    Redis tells of each key that is written; the n-th time that a user's key was, it was with the n-th list of the user.
    """

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.require_kafka()
        redis = connect(settings.require_redis_url())
        redis.config_set("notify-keyspace-events", "K$")
        self._subscription = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # no types
        self._subscription.psubscribe("__keyspace@*__:" + Keys().topk("*"))
        self._stopping = threading.Event()
        self._ready = threading.Barrier(4)
        self._threads = [
            threading.Thread(target=self._read, args=(USER_INTERESTS,)),
            threading.Thread(target=self._read, args=(RECOMMENDATIONS,)),
            threading.Thread(target=self._listen),
        ]
        self.on_kafka: dict[str, dict[str, list[tuple[int, float]]]] = {
            USER_INTERESTS: defaultdict(list),
            RECOMMENDATIONS: defaultdict(list),
        }
        """By topic and user: up to which event, produced at, what arrived knows, and when it arrived."""
        self._set_s: dict[str, list[float]] = defaultdict(list)

    def start(self) -> None:
        """Start to listen; what arrives after the return is noted."""
        for thread in self._threads:
            thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Stop to listen."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._subscription.close()

    def in_redis(self) -> dict[str, list[tuple[int, float]]]:
        """Return, by user, up to which event a list in Redis knew, and since when."""
        lists = self.on_kafka[RECOMMENDATIONS]
        return {
            user: [(produced_ms, set_s) for (produced_ms, _), set_s in zip(lists[user], times_s, strict=False)]
            for user, times_s in self._set_s.copy().items()
        }

    def _read(self, topic: str) -> None:
        decoder, arrived = msgspec.json.Decoder(Known), self.on_kafka[topic]
        with closing(open_observer(self._kafka, patience_ms=_PATIENCE_MS[topic])) as consumer:
            ends = end_offsets(consumer, partitions_of(consumer, (topic,)))
            consumer.assign([KafkaPartition(*source, end) for source, end in ends.items()])
            self._ready.wait()
            while not self._stopping.is_set():
                message = consumer.poll(_POLL_S)
                if message is None or message.error() is not None:
                    continue
                # an interest's own time will do, and watching it patiently costs the broker less
                at_s = message.timestamp()[1] / 1_000 if topic == USER_INTERESTS else time.time()
                with suppress(BadRecordError):  # others can write to the topics, too
                    known = decode_own(decoder, to_record(message).value)
                    arrived[known.user_id].append((known.produced_at_ms, at_s))

    def _listen(self) -> None:
        self._subscription.get_message(timeout=_POLL_S)
        self._ready.wait()
        while not self._stopping.is_set():
            message = self._subscription.get_message(timeout=_POLL_S)
            if message is not None:
                key = message["channel"].decode().split(":", 1)[1]
                self._set_s[key.removeprefix(Keys().topk(""))].append(time.time())


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of each event that was sent, in milliseconds, `(N,)`."""

    late: np.ndarray
    """From when it was due until it was handed to the producer."""
    interest: np.ndarray
    """From there to the user's interest on Kafka."""
    kafka: np.ndarray
    """From when it was due to the list on Kafka."""
    redis: np.ndarray
    """From when it was due to the list in Redis."""

    def stages(self) -> dict[str, dict[str, float]]:
        """Return where the time went."""
        return {
            "producing": percentiles(self.late),
            "interests": percentiles(self.interest),
            "recall": percentiles(self.kafka - self.late - self.interest),
            "store": percentiles(np.maximum(0.0, self.redis - self.kafka)),
        }


@dataclass(slots=True)
class Load:
    """Sends clicks of a population at a rate.

    Parameters
    ----------
    population, settings
        Who clicks, and where.
    rate
        Clicks a second on average.
    seed
        Decides arrivals and clicks.
    """

    population: Population
    settings: Settings
    rate: float
    seed: int
    sent: list[Sent] = field(default_factory=list)

    def send(self, seconds: float) -> None:
        """Send clicks for so long, each when it is due, and return when the broker has them."""
        rng = np.random.default_rng(self.seed)
        due_s = np.cumsum(rng.exponential(1 / self.rate, int(seconds * self.rate)))
        users = rng.integers(0, self.population.users, len(due_s))
        items = self.population.draw_items(users, len(users), rng)
        producer = Producer(
            client_config(self.settings.require_kafka())
            | {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 0}
        )
        started_s, begun_s = time.time(), time.monotonic()
        for user, item, after_s in zip(users.tolist(), items.tolist(), due_s.tolist(), strict=True):
            while (left_s := begun_s + after_s - time.monotonic()) > 0:
                producer.poll(0)
                time.sleep(min(left_s, 0.05))
            now_s = time.time()
            sent = Sent(user_name(user), started_s + after_s, now_s, int(now_s * 1_000))
            click = Click(user_id=sent.user_id, item_id=item_name(item), event_time_ms=sent.sent_ms)
            record = event_record(click)
            producer.produce(CLICKS, key=record.key, value=record.value, timestamp=sent.sent_ms)
            self.sent.append(sent)
        if producer.flush(ARRIVAL_S):
            raise StreamrecError("the broker did not take all events")


def measure(load: Load, seconds: float, *, warm_up_s: float) -> Latencies:
    """Play a load into a running pipeline, and return the latencies after the warm-up.

    Raises
    ------
    StreamrecError
        If an event's list does not come.
    """
    arrivals = Arrivals(load.settings)
    arrivals.start()
    try:
        load.send(warm_up_s + seconds)
        end_s = time.monotonic() + ARRIVAL_S
        while missing := max(
            _missing(load.sent, noted) for noted in (*arrivals.on_kafka.values(), arrivals.in_redis())
        ):
            if time.monotonic() > end_s:
                raise StreamrecError(f"{missing} of {len(load.sent)} events have no list after {ARRIVAL_S:.0f} s")
            time.sleep(_POLL_S)
    finally:
        arrivals.stop()
    measured = [sent for sent in load.sent if sent.due_s >= load.sent[0].due_s + warm_up_s]
    due_s, sent_s = (np.array([getattr(sent, name) for sent in measured]) for name in ("due_s", "sent_s"))
    interests = _arrived_s(measured, arrivals.on_kafka[USER_INTERESTS])
    return Latencies(
        late=(sent_s - due_s) * 1_000,
        interest=(interests - sent_s) * 1_000,
        kafka=(_arrived_s(measured, arrivals.on_kafka[RECOMMENDATIONS]) - due_s) * 1_000,
        redis=(_arrived_s(measured, arrivals.in_redis()) - due_s) * 1_000,
    )


def percentiles(values_ms: np.ndarray) -> dict[str, float]:
    """Return p50, p95, p99 and the maximum."""
    p50, p95, p99 = np.percentile(values_ms, (50, 95, 99)).tolist()
    return {
        "p50_ms": round(p50, 2),
        "p95_ms": round(p95, 2),
        "p99_ms": round(p99, 2),
        "max_ms": round(float(values_ms.max()), 2),
    }


def _missing(sent: Iterable[Sent], arrived: Mapping[str, list[tuple[int, float]]]) -> int:
    return sum(not arrived.get(each.user_id) or arrived[each.user_id][-1][0] < each.sent_ms for each in sent)


def _arrived_s(sent: Iterable[Sent], arrived: Mapping[str, list[tuple[int, float]]]) -> np.ndarray:
    """Return when the first record arrived that knows of each event, or of a later one of the user."""
    found = []
    for each in sent:
        known = arrived[each.user_id]
        found.append(known[bisect_left(known, (each.sent_ms, 0.0))][1])
    return np.array(found)
