"""Holds a producer to what the workers have handled, so that a recording that is played fast is not only a backlog."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import Consumer

from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of
from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore
from streamrec.contracts.topics import CLICKS, PURCHASES, USER_INTERESTS
from streamrec.errors import StreamrecError, TransientError
from streamrec.service.batch import Positions, TopicPartition
from streamrec.settings import Settings

MIN_IN_FLIGHT = 40
MAX_IN_FLIGHT = 20_000
STALLED_S = 90.0
"""Workers that handle nothing for so long do not run; starting them takes a few seconds."""

_LOOK_S = 0.01


class InFlight:
    """Counts records that `interests` and `recall` have still to handle: the age of lists, in records.

    Parameters
    ----------
    settings
        Where the servers are.
    """

    def __init__(self, settings: Settings) -> None:
        self._observer: Consumer = open_observer(settings.require_kafka())
        redis_url = settings.require_redis_url()
        interests = RedisInterestStore(redis_url, state_ttl_days=settings.state_ttl_days)
        recall = RedisTopKStore(redis_url, list_ttl_days=settings.list_ttl_days)
        self._readers: list[tuple[list[TopicPartition], Callable[[Sequence[TopicPartition]], Positions]]] = [
            (partitions_of(self._observer, (CLICKS, PURCHASES)), interests.positions),
            (partitions_of(self._observer, (USER_INTERESTS,)), recall.positions),
        ]
        self._sources = [source for sources, _ in self._readers for source in sources]

    def count(self) -> int:
        """Return the number of records, of both workers together."""
        ends = end_offsets(self._observer, self._sources)
        handled: Positions = {}
        for sources, positions in self._readers:
            handled |= positions(sources)
        return sum(max(0, end - handled.get(source, 0)) for source, end in ends.items())

    def wait_until_at_most(self, records: int) -> None:
        """Wait until no more than so many are left.

        Raises
        ------
        StreamrecError
            If the workers make no headway.
        """
        left = None
        moved_s = time.monotonic()
        while True:
            with suppress(TransientError):  # a busy store is asked again
                now_left = self.count()
                if now_left <= records:
                    return
                if now_left != left:
                    left, moved_s = now_left, time.monotonic()
            if time.monotonic() - moved_s > STALLED_S:
                raise StreamrecError(f"the workers handled nothing for {STALLED_S:.0f} s; {left} records wait")
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """Close the connection to the broker."""
        self._observer.close()


@dataclass(slots=True)
class Throttle:
    """Lets as few records be in flight as the time allows.

    A recording that is played a thousand times faster than it happened leaves no time for a list between two clicks of
    a user, unless few events are on their way at once.

    Parameters
    ----------
    total
        Turns to be played.
    budget_s
        In how much time.
    allowed
        Records that may be in flight now.
    """

    total: int
    budget_s: float
    allowed: float = MIN_IN_FLIGHT

    def adapt(self, played: int, elapsed_s: float) -> int:
        """Return how many records may be in flight, more of them when the playing is behind its time."""
        behind = played < self.total * elapsed_s / self.budget_s
        self.allowed = min(MAX_IN_FLIGHT, self.allowed * 1.2) if behind else max(MIN_IN_FLIGHT, self.allowed / 1.2)
        return int(self.allowed)
