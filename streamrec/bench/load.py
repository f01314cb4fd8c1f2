"""Clicks at a rate: open-loop Poisson arrivals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import Producer

from streamrec.adapters.kafka.client import client_config
from streamrec.bench.population import Population, item_name, user_name
from streamrec.contracts.incoming import Click
from streamrec.contracts.topics import CLICKS
from streamrec.errors import StreamrecError
from streamrec.playback.records import event_record
from streamrec.settings import Settings

OVERDUE_S = 5.0
"""If a click is overdue by more, this process cannot sustain the rate, and stops."""

FLUSH_S = 120.0

_DRAWN_TOGETHER = 4_096


@dataclass(slots=True)
class Sent:
    """A sent click."""

    user_id: str
    due_s: float
    sent_s: float
    sent_ms: int


@dataclass(slots=True)
class Load:
    """Sends clicks of a population at a rate.

    Parameters
    ----------
    population, settings
        Users, and the settings of the pipeline.
    rate
        Mean clicks/s.
    seed
        Random seed of arrivals and clicks.
    topic
        Target topic.

    Attributes
    ----------
    sent
        Sent clicks, in order.
    held
        Whether all clicks were sent, each less than `OVERDUE_S` late.
    """

    population: Population
    settings: Settings
    rate: float
    seed: int
    topic: str = CLICKS
    sent: list[Sent] = field(default_factory=list)
    held: bool = True

    def send(self, seconds: float) -> None:
        """Send clicks for this long, each when it is due, and wait for the acknowledgements.

        Raises
        ------
        StreamrecError
            If the broker does not accept them.
        """
        producer = Producer(
            client_config(self.settings.require_kafka())
            | {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 0}
        )
        started_s, begun_s = time.time(), time.monotonic()
        for user, item, after_s in self._clicks(int(seconds * self.rate)):
            while (left_s := begun_s + after_s - time.monotonic()) > 0:
                producer.poll(0)
                time.sleep(min(left_s, 0.05))
            if left_s < -OVERDUE_S:
                self.held = False
                break
            now_s = time.time()
            sent = Sent(user_name(user), started_s + after_s, now_s, int(now_s * 1_000))
            click = Click(user_id=sent.user_id, item_id=item_name(item), event_time_ms=sent.sent_ms)
            record = event_record(click)
            while True:
                try:
                    producer.produce(self.topic, key=record.key, value=record.value, timestamp=sent.sent_ms)
                    break
                except BufferError:  # the queue is full
                    producer.poll(0.1)
            self.sent.append(sent)
        if producer.flush(FLUSH_S):
            raise StreamrecError(f"the broker did not accept all clicks in {FLUSH_S:.0f} s")

    def after(self, warm_up_s: float) -> list[Sent]:
        """Return the clicks due after the warm-up, or all if there are none."""
        return [sent for sent in self.sent if sent.due_s >= self.sent[0].due_s + warm_up_s] or self.sent

    def _clicks(self, count: int) -> Iterator[tuple[int, int, float]]:
        """Yield this many clicks: user, item, and due time in seconds from the start."""
        rng = np.random.default_rng(self.seed)
        last_s = 0.0
        for first in range(0, count, _DRAWN_TOGETHER):
            together = min(_DRAWN_TOGETHER, count - first)
            due_s = last_s + np.cumsum(rng.exponential(1 / self.rate, together))
            users = rng.integers(0, self.population.users, together)
            items = self.population.draw_items(users, together, rng)
            yield from zip(users.tolist(), items.tolist(), due_s.tolist(), strict=True)
            last_s = float(due_s[-1])
