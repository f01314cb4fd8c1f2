"""Arrival times of the pipeline's output: interests and lists on Kafka, keys in Redis."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import closing, suppress

import msgspec
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import to_record
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of
from streamrec.adapters.redis.client import connect
from streamrec.adapters.redis.keys import Keys
from streamrec.contracts.decode import decode_own
from streamrec.contracts.topics import RECOMMENDATIONS, USER_INTERESTS
from streamrec.errors import BadRecordError
from streamrec.settings import Settings

POLL_S = 0.2

_PATIENCE_MS = {USER_INTERESTS: 500, RECOMMENDATIONS: 0}


class KeyWatch:
    """Records when keys are set, as visible to readers.

    Parameters
    ----------
    redis_url
        Address of the server, whose keyspace notifications are enabled.
    prefix
        Prefix of the keys.

    Attributes
    ----------
    set_s
        Times of each set, by the rest of the key.
    """

    def __init__(self, redis_url: str, prefix: str) -> None:
        redis = connect(redis_url)
        redis.config_set("notify-keyspace-events", "K$")
        self._subscription = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # no types
        self._subscription.psubscribe(f"__keyspace@*__:{prefix}*")
        self._prefix = prefix
        self._stopping = threading.Event()
        self._ready = threading.Barrier(2)
        self._thread = threading.Thread(target=self._listen, name="keys")
        self.set_s: dict[str, list[float]] = defaultdict(list)

    def start(self) -> None:
        """Start listening; keys set after the return are recorded."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Stop listening."""
        self._stopping.set()
        self._thread.join()
        self._subscription.close()

    def _listen(self) -> None:
        self._subscription.get_message(timeout=POLL_S)
        self._ready.wait()
        while not self._stopping.is_set():
            message = self._subscription.get_message(timeout=POLL_S)
            if message is not None:
                key = message["channel"].decode().split(":", 1)[1]
                self.set_s[key.removeprefix(self._prefix)].append(time.time())


class Known(msgspec.Struct):
    """The decoded fields of an interest or a list: its user and its newest event."""

    user_id: str
    produced_at_ms: int


class Arrivals:
    """Records when interests and lists arrive on Kafka, and lists in Redis.

    The n-th set of a user's key corresponds to the user's n-th list.

    Attributes
    ----------
    on_kafka
        By topic and user: production time of the newest event in each record, and its arrival time.
    """

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.require_kafka()
        self._keys = KeyWatch(settings.require_redis_url(), Keys().topk(""))
        self._stopping = threading.Event()
        self._ready = threading.Barrier(3)
        self._threads = [
            threading.Thread(target=self._read, args=(topic,), name=topic)
            for topic in (USER_INTERESTS, RECOMMENDATIONS)
        ]
        self.on_kafka: dict[str, dict[str, list[tuple[int, float]]]] = {
            USER_INTERESTS: defaultdict(list),
            RECOMMENDATIONS: defaultdict(list),
        }

    def start(self) -> None:
        """Start listening; records arriving after the return are recorded."""
        self._keys.start()
        for thread in self._threads:
            thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Stop listening."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._keys.stop()

    def in_redis(self) -> dict[str, list[tuple[int, float]]]:
        """Return the newest event in each list in Redis and the time it was set, by user."""
        lists = self.on_kafka[RECOMMENDATIONS]
        return {
            user: [(produced_ms, set_s) for (produced_ms, _), set_s in zip(lists[user], times_s, strict=False)]
            for user, times_s in self._keys.set_s.copy().items()
        }

    def _read(self, topic: str) -> None:
        decoder, arrived = msgspec.json.Decoder(Known), self.on_kafka[topic]
        with closing(open_observer(self._kafka, patience_ms=_PATIENCE_MS[topic])) as consumer:
            ends = end_offsets(consumer, partitions_of(consumer, (topic,)))
            consumer.assign([KafkaPartition(*source, end) for source, end in ends.items()])
            self._ready.wait()
            while not self._stopping.is_set():
                message = consumer.poll(POLL_S)
                if message is None or message.error() is not None:
                    continue
                # record timestamps suffice for interests, and a patient consumer costs the broker less
                at_s = message.timestamp()[1] / 1_000 if topic == USER_INTERESTS else time.time()
                with suppress(BadRecordError):  # others can write to the topics, too
                    known = decode_own(decoder, to_record(message).value)
                    arrived[known.user_id].append((known.produced_at_ms, at_s))
