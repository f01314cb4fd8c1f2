"""Progress of each worker, sampled during a run, from which stalls and recovery times are derived."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from streamrec.adapters.kafka.lag import committed_offsets, end_offsets, open_observer, partitions_of
from streamrec.adapters.postgres import PostgresRetentionStore
from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore
from streamrec.contracts.topics import EVENT_TOPICS, RECOMMENDATIONS, USER_INTERESTS
from streamrec.errors import TransientError
from streamrec.settings import Settings

SAMPLE_S = 0.1


class Headway:
    """Samples the progress of each worker in a separate thread.

    Parameters
    ----------
    settings
        Settings with all addresses.
    workers
        The running workers.
    """

    def __init__(self, settings: Settings, workers: Sequence[str]) -> None:
        redis_url = settings.require_redis_url()
        self._observer = open_observer(settings.require_kafka())
        self._trainers_group = open_observer(settings.require_kafka(), "streamrec-trainer")
        interests = RedisInterestStore(redis_url, state_ttl_days=settings.state_ttl_days)
        recall = RedisTopKStore(redis_url, list_ttl_days=settings.list_ttl_days)
        retention = PostgresRetentionStore(settings.require_postgres_url())
        readers: dict[str, tuple[list[Any], Callable[..., Any]]] = {
            "interests": (partitions_of(self._observer, EVENT_TOPICS), interests.positions),
            # admitted events are in its memory and checkpoints; its committed offset follows within a second
            "trainer": (
                partitions_of(self._observer, (USER_INTERESTS,)),
                partial(committed_offsets, self._trainers_group),
            ),
            "recall": (partitions_of(self._observer, (USER_INTERESTS,)), recall.positions),
            "retention": (
                partitions_of(self._observer, (*EVENT_TOPICS, RECOMMENDATIONS)),
                retention.positions,
            ),
        }
        self._readers = {worker: readers[worker] for worker in workers}
        self.samples: dict[str, list[tuple[float, int, int]]] = {worker: [] for worker in self._readers}
        """By worker: start time of a sample, position, number of waiting records."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="headway")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._observer.close()
        self._trainers_group.close()

    def left(self) -> dict[str, int]:
        """Return the number of waiting records of each worker that has any."""
        lags = {worker: self._look(worker)[1] for worker in self._readers}
        return {worker: lag for worker, lag in lags.items() if lag}

    def longest_stall_s(self) -> float:
        """Return the longest time between two samples at which a worker had made progress or had no work.

        Nothing is assumed between samples: an unavailable store cannot be sampled, and nothing progresses then.
        """
        longest = 0.0
        for samples in self.samples.values():
            well_s, last = samples[0][0] if samples else 0.0, -1
            for at_s, position, lag in samples:
                longest = max(longest, at_s - well_s)
                if position > last or not lag:
                    well_s = at_s
                last = position
        return longest

    def near(self, workers: Sequence[str], since_s: float, *, records: float) -> bool:
        """Return whether these workers were sampled since then, had progressed, and had few enough records left."""
        newest = [self.samples[worker][-1] if self.samples[worker] else (0.0, 0, 0) for worker in workers]
        return all(at_s > since_s and position and lag <= records for at_s, position, lag in newest)

    def recovery_s(self, fault_s: float) -> float:
        """Return the time from a fault until every worker had made progress or had no work, or until the end.

        Work done just before the fault does not count: progress is measured from the first sample that began after it.
        """
        slowest = 0.0
        for samples in self.samples.values():
            later = [sample for sample in samples if sample[0] >= fault_s]
            healthy = (at_s for at_s, position, lag in later if position > later[0][1] or not lag)
            slowest = max(slowest, next(healthy, samples[-1][0] if samples else fault_s) - fault_s)
        return slowest

    def _watch(self) -> None:
        while not self._stopping.wait(SAMPLE_S):
            for worker, samples in self.samples.items():
                with suppress(TransientError):  # an unavailable store or broker is expected
                    begun_s = time.monotonic()
                    samples.append((begun_s, *self._look(worker)))

    def _look(self, worker: str) -> tuple[int, int]:
        sources, positions = self._readers[worker]
        stored = positions(sources)
        ends = end_offsets(self._observer, sources)
        return sum(stored.values()), sum(max(0, end - stored.get(source, 0)) for source, end in ends.items())
