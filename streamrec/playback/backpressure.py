"""Backpressure by the workers' progress, so that a recording played fast does not only build a backlog."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import Consumer

from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of
from streamrec.adapters.postgres import PostgresRetentionStore
from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore
from streamrec.contracts.topics import EVENT_TOPICS, RECOMMENDATIONS, USER_INTERESTS
from streamrec.errors import StreamrecError, TransientError
from streamrec.service.batch import Positions, TopicPartition
from streamrec.settings import Settings

MIN_IN_FLIGHT = 40
MAX_IN_FLIGHT = 1_000
"""More records in flight make lists older but the pipeline hardly faster: batches have reached their maximum size."""

STALLED_S = 300.0
"""Workers without progress for this long are not running; starting them takes seconds, or minutes on a slow machine."""

MAX_RETENTION_BEHIND = 3_000
"""`retention` is not needed for lists; but it must finish, and an in-memory broker retains little."""

_LOOK_S = 0.01

ReadPositions = Callable[[Sequence[TopicPartition]], Positions]
Progress = tuple[list[TopicPartition], ReadPositions]
"""A worker's topics, and its positions."""


class InFlight:
    """Counts records that workers have not processed yet.

    Parameters
    ----------
    settings
        Settings with the servers' addresses.
    """

    def __init__(self, settings: Settings) -> None:
        self._observer: Consumer = open_observer(settings.require_kafka())
        redis_url = settings.require_redis_url()
        interests = RedisInterestStore(redis_url, state_ttl_days=settings.state_ttl_days)
        recall = RedisTopKStore(redis_url, list_ttl_days=settings.list_ttl_days)
        retention = PostgresRetentionStore(settings.require_postgres_url())
        self._lists = [
            self._progress(EVENT_TOPICS, interests.positions),
            self._progress((USER_INTERESTS,), recall.positions),
        ]
        self._retention = [self._progress((*EVENT_TOPICS, RECOMMENDATIONS), retention.positions)]

    def _progress(self, topics: Sequence[str], positions: ReadPositions) -> Progress:
        return partitions_of(self._observer, topics), positions

    def wait_until_at_most(self, records: int) -> None:
        """Wait until `interests` and `recall` have at most this many records left, and `retention` is not far behind.

        Raises
        ------
        StreamrecError
            If the workers make no progress.
        """
        self._wait(self._lists, records)
        self._wait(self._retention, MAX_RETENTION_BEHIND)

    def _wait(self, workers: Sequence[Progress], records: int) -> None:
        left = None
        moved_s = time.monotonic()
        while True:
            with suppress(TransientError):  # retry a busy store
                now_left = self._count(workers)
                if now_left <= records:
                    return
                if now_left != left:
                    left, moved_s = now_left, time.monotonic()
            if time.monotonic() - moved_s > STALLED_S:
                raise StreamrecError(f"the workers made no progress for {STALLED_S:.0f} s; {left} records wait")
            time.sleep(_LOOK_S)

    def _count(self, workers: Sequence[Progress]) -> int:
        left = 0
        for sources, positions in workers:
            ends, handled = end_offsets(self._observer, sources), positions(sources)
            left += sum(max(0, end - handled.get(source, 0)) for source, end in ends.items())
        return left

    def close(self) -> None:
        """Close the connection to the broker."""
        self._observer.close()


@dataclass(slots=True)
class Throttle:
    """Keeps as few records in flight as the time budget allows.

    A recording played a thousand times faster than it happened leaves no time for a list between two clicks of a user,
    unless few events are in flight.

    Parameters
    ----------
    total
        Turns to play.
    budget_s
        Time budget.
    allowed
        Current maximum of records in flight.
    """

    total: int
    budget_s: float
    allowed: float = MIN_IN_FLIGHT

    def adapt(self, played: int, elapsed_s: float) -> int:
        """Return how many records may be in flight; more when playback is behind schedule."""
        if self.in_time(played, elapsed_s):
            self.allowed = max(MIN_IN_FLIGHT, self.allowed / 1.2)
        else:
            self.allowed = min(MAX_IN_FLIGHT, self.allowed * 1.2)
        return int(self.allowed)

    def in_time(self, played: int, elapsed_s: float) -> bool:
        """Return whether this many turns are on schedule."""
        return played >= self.total * elapsed_s / self.budget_s
