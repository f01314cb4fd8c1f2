"""Memory per user, cost of an idle pipeline, and throughput by number of processes."""

from __future__ import annotations

import time
from statistics import mean
from typing import Any

from msgspec import Struct

from streamrec.adapters.redis.client import connect
from streamrec.adapters.redis.keys import Keys
from streamrec.bench.interests import drain, fill
from streamrec.bench.population import Population
from streamrec.bench.processes import ProcessWatch
from streamrec.local import Stack, Supervisor

SETTLING_S = 10.0
"""Settling time before a pipeline counts as idle."""


class Throughput(Struct, kw_only=True):
    """Total events/s folded by processes of the `interests` worker."""

    partitions: int
    processes: int
    events_per_s: float


class Idle(Struct, kw_only=True):
    """CPU use of each kind of process without events."""

    cpu_percent: dict[str, float]
    """Percent of one core."""
    rss_mb: dict[str, float]


def used_bytes(stack: Stack) -> int:
    """Return the bytes that Redis has allocated since it started."""
    memory: Any = connect(stack.settings.require_redis_url()).info("memory")
    return int(memory["used_memory"] - memory["used_memory_startup"])


def bytes_per_list(stack: Stack) -> float:
    """Return the mean size of a list in Redis, including key and overhead."""
    redis = connect(stack.settings.require_redis_url())
    sizes: list[Any] = [redis.memory_usage(key) for key in redis.scan_iter(match=Keys().topk("?*"), count=1_000)]
    return float(mean(sizes))


def watch_idle(stack: Stack, supervisor: Supervisor, seconds: float) -> Idle:
    """Measure the idle pipeline for this long."""
    time.sleep(SETTLING_S)
    with ProcessWatch(stack, supervisor) as watch:
        time.sleep(seconds)
    return Idle(
        cpu_percent={name: round(100 * cores, 2) for name, cores in watch.cpu.items()},
        rss_mb=watch.rss_mb,
    )


def throughput(stack: Stack, population: Population, events: int, processes: int) -> Throughput:
    """Fill `clicks`, and let this many processes fold all of it."""
    fill(stack, population, events)
    speed = drain(stack, events, processes)
    return Throughput(partitions=stack.settings.partitions, processes=processes, events_per_s=round(speed))
