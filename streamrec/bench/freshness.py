"""Freshness under load: from the instant a click is due to the list that knows of it, and where the time goes.

Latency counts from when a click was due, so that a stall is not left out of the figures. Every click counts, those too
whose list was made together with that of a later one.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from streamrec.bench.arrivals import POLL_S, Arrivals
from streamrec.bench.load import Load, Sent
from streamrec.contracts.topics import RECOMMENDATIONS, USER_INTERESTS

ARRIVAL_S = 30.0
"""So long after the last click lists are waited for."""

SATURATED_SHARE, SATURATED_S = 0.05, 1.0
"""A pipeline that is behind by more of a run at its end, and by more seconds, does not hold the rate."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of each click that was sent, in milliseconds, `(N,)`; of one whose list did not come, until the end."""

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


@dataclass(frozen=True, slots=True)
class Run:
    """What a load did to a pipeline."""

    latencies: Latencies
    """After the warm-up."""
    rate_reached: float
    """Clicks per second whose lists came, from the first click to the last list."""
    unlisted: int
    """Clicks whose list had not come in the end."""
    saturated: bool
    """Whether the rate was more than could be sent, or than lists were made for."""


def measure(load: Load, seconds: float, *, warm_up_s: float) -> Run:
    """Play a load into a running pipeline, and return what came of it."""
    arrivals = Arrivals(load.settings)
    arrivals.start()
    try:
        load.send(warm_up_s + seconds)
        newest = {sent.user_id: sent.sent_ms for sent in load.sent}
        end_s = time.monotonic() + ARRIVAL_S
        while time.monotonic() < end_s and not all(
            _covers(arrived, newest) for arrived in (*arrivals.on_kafka.values(), arrivals.in_redis())
        ):
            time.sleep(POLL_S)
    finally:
        arrivals.stop()
    return _run(load, arrivals, seconds, warm_up_s)


def percentiles(values_ms: np.ndarray) -> dict[str, float]:
    """Return p50, p95, p99 and the maximum."""
    p50, p95, p99 = np.percentile(values_ms, (50, 95, 99)).tolist()
    return {
        "p50_ms": round(p50, 2),
        "p95_ms": round(p95, 2),
        "p99_ms": round(p99, 2),
        "max_ms": round(float(values_ms.max()), 2),
    }


def _run(load: Load, arrivals: Arrivals, seconds: float, warm_up_s: float) -> Run:
    end_s = time.time()
    lists_s = _arrived_s(load.sent, arrivals.in_redis())
    listed = np.isfinite(lists_s)
    begun_s, over_s = load.sent[0].due_s, load.sent[-1].due_s
    last_s = float(lists_s[listed].max(initial=over_s)) if listed.all() else end_s
    measured = load.after(warm_up_s)
    due_s, sent_s = (np.array([getattr(sent, name) for sent in measured]) for name in ("due_s", "sent_s"))
    interests_s, kafka_s, redis_s = (
        np.minimum(_arrived_s(measured, arrived), end_s)
        for arrived in (arrivals.on_kafka[USER_INTERESTS], arrivals.on_kafka[RECOMMENDATIONS], arrivals.in_redis())
    )
    return Run(
        latencies=Latencies(
            late=(sent_s - due_s) * 1_000,
            interest=(interests_s - sent_s) * 1_000,
            kafka=(kafka_s - due_s) * 1_000,
            redis=(redis_s - due_s) * 1_000,
        ),
        rate_reached=round(int(listed.sum()) / (last_s - begun_s), 1),
        unlisted=int((~listed).sum()),
        saturated=not load.held or last_s - over_s > max(SATURATED_S, SATURATED_SHARE * seconds),
    )


def _covers(arrived: Mapping[str, list[tuple[int, float]]], newest_ms: Mapping[str, int]) -> bool:
    """Return whether the newest event of each user is known to what arrived."""
    return all(arrived.get(user_id) and arrived[user_id][-1][0] >= sent_ms for user_id, sent_ms in newest_ms.items())


def _arrived_s(sent: Iterable[Sent], arrived: Mapping[str, list[tuple[int, float]]]) -> np.ndarray:
    """Return when the first record arrived that knows of each event, or of a later one of the user; inf for none."""
    found = []
    for each in sent:
        known = arrived.get(each.user_id, [])
        at = bisect_left(known, (each.sent_ms, 0.0))
        found.append(known[at][1] if at < len(known) else np.inf)
    return np.array(found)
