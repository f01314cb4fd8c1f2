"""Load of a chaos run: events at a fixed rate, including late ones, duplicates and bad records."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, Message, Producer

from streamrec.adapters.kafka.client import client_config
from streamrec.chaos.patience import PATIENCE_S
from streamrec.chaos.undecodable import MARK
from streamrec.contracts.topics import CLICKS, EVENT_TOPICS, FEEDBACK, PURCHASES
from streamrec.errors import StreamrecError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import TopicPartition

USERS, ITEMS = 400, 200
DUPLICATE_SHARE = 0.02
PURCHASE_SHARE, FEEDBACK_SHARE = 0.1, 0.1
LATE_MS = 60_000
"""Maximum lateness of events."""

POISON_SHARE = 0.01


Place = tuple[int, int, int]
"""Number of the topic, partition and offset of a record."""

_TOO_LARGE = "x" * 70_000


def _event(rng: random.Random, event_id: str) -> dict[str, object]:
    return {
        "user_id": f"u{rng.randrange(USERS)}",
        "item_id": f"i{rng.randrange(ITEMS)}",
        "event_time_ms": time.time_ns() // 1_000_000 - rng.randrange(LATE_MS),
        "event_id": event_id,
        "category": f"c{rng.randrange(8)}",
        "context": {"device": rng.choice(["phone", "desktop"])},
    }


_FEEDBACK: tuple[dict[str, object], ...] = (
    {"type": "add_to_cart"},
    {"type": "dislike"},
    {"type": "rating", "value": 1},
    {"type": "rating", "value": 5},
)


def _topic(rng: random.Random) -> str:
    chance = rng.random()
    if chance < PURCHASE_SHARE:
        return PURCHASES
    return FEEDBACK if chance < PURCHASE_SHARE + FEEDBACK_SHARE else CLICKS


_SPOILED: dict[str, Callable[[dict[str, object]], bytes | None]] = {
    "bad-json": lambda event: json.dumps(event).encode()[:-1],
    "not-utf8": lambda event: json.dumps(event).encode().replace(b'"u', b'"\xff', 1),
    "missing-field": lambda event: _with(event, item_id=None),
    "wrong-type": lambda event: _with(event, item_id=[7]),
    "envelope": lambda event: json.dumps([event]).encode(),
    "bad-value": lambda event: _with(event, item_id=""),
    "bad-time": lambda event: _with(event, event_time_ms=1),
    "unknown-type": lambda event: _with(event, type="dance"),
    "too-large": lambda event: _with(event, context={"note": _TOO_LARGE}),
    "null-value": lambda _event: None,
    "id-reused": lambda event: _with(event, item_id="another"),
    "bad-headers": lambda event: json.dumps(event).encode(),
}
"""Ways to corrupt an event, by the expected reason of its dead letter."""

_HEADERS: dict[str, dict[str, str | bytes | None]] = {"bad-headers": {MARK: b"1"}}
"""Headers that make an event invalid."""


def _with(event: dict[str, object], **changes: object) -> bytes:
    changed = event | changes
    return json.dumps({name: value for name, value in changed.items() if value is not None}).encode()


Settle = Callable[[KafkaError | None, Message], None]


class Produced(NamedTuple):
    """A record to produce."""

    topic: str
    key: str
    value: bytes | None
    reason: str = ""
    """The reason for which it must be refused, if any."""

    @property
    def headers(self) -> dict[str, str | bytes | None]:
        """Its headers."""
        return _HEADERS.get(self.reason, {})


def records(seed: int, *, poison_share: float = POISON_SHARE) -> Iterator[list[Produced]]:
    """Yield the records of a seed indefinitely: each event with its duplicate and bad records."""
    rng = random.Random(seed)  # noqa: S311  # reproducible events, no secret
    for number in count():
        event, topic = _event(rng, f"{seed}-{number}"), _topic(rng)
        if topic == FEEDBACK:
            event |= rng.choice(_FEEDBACK)
        record = Produced(topic, str(event["user_id"]), json.dumps(event).encode())
        together = [record, record] if rng.random() < DUPLICATE_SHARE else [record]
        if rng.random() < poison_share:
            reason = rng.choice(list(_SPOILED))
            together.append(Produced(topic, record.key, _SPOILED[reason](event), reason))
        yield together


@dataclass(slots=True)
class Acknowledged:
    """Records acknowledged by the broker.

    Parameters
    ----------
    records
        Number of records by partition.
    poison
        Expected reason by position of a bad record.
    """

    records: Counter[TopicPartition] = field(default_factory=Counter)
    poison: dict[Place, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take_note(self, message: Message, reason: str) -> None:
        """Record an acknowledged record, with the reason for which it must be refused, if any."""
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        with self._lock:  # shared by several producers
            self.records[TopicPartition(topic, partition)] += 1
            if reason:
                self.poison[EVENT_TOPICS.index(topic), partition, offset] = reason


@dataclass(slots=True)
class Load:
    """Produces in a separate thread, from entering the context until `events` are sent or the context exits.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    seed
        Random seed.
    rate
        Events/s.
    events
        Number of events; `None` for no limit.
    """

    kafka: KafkaAccess
    seed: int
    rate: float
    events: int | None = None
    sent: int = 0
    acknowledged: Acknowledged = field(default_factory=Acknowledged)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _failures: list[BaseException] = field(default_factory=list)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="load")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Wait until the broker has all records, or raise immediately on an error."""
        if kind is not None or self.events is None:
            self._stopping.set()
        self._thread.join()
        if self._failures and kind is None:
            raise self._failures[0]

    def _run(self) -> None:
        try:
            self._send()
        except StreamrecError as error:
            self._failures.append(error)

    def _send(self) -> None:
        producer = Producer(client_config(self.kafka) | {"partitioner": "murmur2_random", "enable.idempotence": True})
        started_s = time.monotonic()
        for together in records(self.seed):
            if self._stopping.is_set() or self.sent == self.events:
                break
            for record in together:
                produce(producer, record, partial(self._settle, record.reason))
            self.sent += 1
            producer.poll(max(0.0, started_s + self.sent / self.rate - time.monotonic()))
        if producer.flush(PATIENCE_S):
            raise StreamrecError("the broker did not accept all events")

    def _settle(self, reason: str, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.acknowledged.take_note(message, reason)
        else:
            self._failures.append(StreamrecError(f"the broker did not accept an event: {error}"))


def produce(producer: Producer, record: Produced, settle: Settle | None = None) -> None:
    """Produce a record, waiting for room in the queue; `settle` is called with its delivery report."""
    while True:
        try:
            producer.produce(
                record.topic, key=record.key, value=record.value, headers=record.headers, on_delivery=settle
            )
        except BufferError:
            producer.poll(0.1)
        else:
            return
