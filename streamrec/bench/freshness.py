"""Freshness under load: from when a click is due to the list that includes it, by stage.

Latency is measured from when a click was due, so that stalls are included. Every click counts, including those whose
list was made together with that of a later one.
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
"""Timeout for lists after the last click."""

SATURATED_SHARE, SATURATED_S = 0.05, 1.0
"""A pipeline that is behind by more than this share of a run and this many seconds at its end is saturated."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies of sent clicks in milliseconds, `(N,)`; until the end if the list did not arrive."""

    late: np.ndarray
    """From due time to the producer."""
    interest: np.ndarray
    """From the producer to the user's interest on Kafka."""
    kafka: np.ndarray
    """From due time to the list on Kafka."""
    redis: np.ndarray
    """From due time to the list in Redis."""

    def stages(self) -> dict[str, dict[str, float]]:
        """Return the latencies by stage."""
        return {
            "producing": percentiles(self.late),
            "interests": percentiles(self.interest),
            "recall": percentiles(self.kafka - self.late - self.interest),
            "store": percentiles(np.maximum(0.0, self.redis - self.kafka)),
        }


@dataclass(frozen=True, slots=True)
class Run:
    """Results of load on a pipeline."""

    latencies: Latencies
    """Latencies after the warm-up."""
    rate_reached: float
    """Clicks/s with lists, from the first click to the last list."""
    unlisted: int
    """Number of clicks whose list had not arrived in the end."""
    saturated: bool
    """Whether the rate exceeded what could be sent, or what lists were made for."""


def measure(load: Load, seconds: float, *, warm_up_s: float) -> Run:
    """Generate load on a running pipeline, and return the results."""
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
    """Return whether the newest event of each user is included in what arrived."""
    return all(arrived.get(user_id) and arrived[user_id][-1][0] >= sent_ms for user_id, sent_ms in newest_ms.items())


def _arrived_s(sent: Iterable[Sent], arrived: Mapping[str, list[tuple[int, float]]]) -> np.ndarray:
    """Return the arrival of the first record that includes each event, or a later one of the user; inf if none."""
    found = []
    for each in sent:
        known = arrived.get(each.user_id, [])
        at = bisect_left(known, (each.sent_ms, 0.0))
        found.append(known[at][1] if at < len(known) else np.inf)
    return np.array(found)
