"""Events/s that one process folds into interest states, compared with other stream processors using the same fold.

All clicks are on the broker before anything starts, and start-up is excluded: timing begins with the first folded
event. Most others only keep state; streamrec's worker also publishes every new state, and so does `quix_publishing`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.redis import RedisInterestStore
from streamrec.bench.peer_environment import DEADLINE_S, peer_python, run_peer
from streamrec.bench.population import Population, item_name, user_name
from streamrec.contracts.incoming import Click
from streamrec.contracts.topics import CLICKS
from streamrec.errors import StreamrecError
from streamrec.local import Stack, Supervisor
from streamrec.playback.records import event_record
from streamrec.service.batch import TopicPartition

OWN = "streamrec"
GUARANTEES = {
    OWN: "durable in Redis; nothing lost or duplicated; publishes every new state",
    "faust_table": "durable in a changelog topic; counts twice after a crash",
    "quix": "durable in a changelog topic; at least once, so a crash may fold twice",
    "quix_publishing": "as quix; publishes every new state",
    "bytewax": "not durable: all states are lost in a crash",
}

_PROGRAMS = {
    "faust_table": "faust_table.py",
    "quix": "quix.py",
    "quix_publishing": "quix_publishing.py",
    "bytewax": "bytewax_map.py",
}
_CHUNK = 10_000
_POLL_S = 0.02


def measure(stack: Stack, population: Population, events: int, names: list[str]) -> Iterator[tuple[str, float]]:
    """Fill `clicks` and let each process fold all of it, one after the other; yield name and events/s.

    Raises
    ------
    StreamrecError
        If one does not finish.
    """
    fill(stack, population, events)
    for name in names:
        yield name, drain(stack, events, processes=1) if name == OWN else _peer(name, stack, events)


def fill(stack: Stack, population: Population, events: int) -> None:
    """Publish clicks of a population, with users sampled uniformly."""
    rng = np.random.default_rng(population.seed)
    publisher = KafkaPublisher(stack.settings.require_kafka())
    now_ms = time.time_ns() // 1_000_000 - events
    for start in range(0, events, _CHUNK):
        users = rng.integers(0, population.users, min(_CHUNK, events - start))
        items = population.draw_items(users, len(users), rng)
        publisher.publish(
            [
                event_record(
                    Click(
                        user_id=user_name(user),
                        item_id=item_name(item),
                        event_time_ms=now_ms + start + number,
                    )
                )
                for number, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True))
            ]
        )


def drain(stack: Stack, events: int, processes: int) -> float:
    """Let processes of the `interests` worker fold the backlog; return events/s after the first ones.

    Raises
    ------
    StreamrecError
        If they do not finish.
    """
    settings = stack.settings
    store = RedisInterestStore(settings.require_redis_url(), state_ttl_days=settings.state_ttl_days)
    sources = [TopicPartition(CLICKS, partition) for partition in range(settings.partitions)]

    def applied() -> int:
        return sum(progress.applied for progress in store.progress(sources).values())

    with Supervisor(stack, settings.data_dir / "logs", ["interests"] * processes):
        end_s = time.monotonic() + DEADLINE_S
        while not (before := applied()):
            time.sleep(_POLL_S)
            _check(end_s, OWN)
        if before == events:
            raise StreamrecError(f"{events} events are folded too fast to be timed; use more events")
        started_s = time.monotonic()
        while (after := applied()) < events:
            time.sleep(_POLL_S)
            _check(end_s, OWN)
        return (after - before) / (time.monotonic() - started_s)


def _peer(name: str, stack: Stack, events: int) -> float:
    settings = stack.settings
    python = Path(sys.executable) if name == "faust_table" else peer_python(lambda _: None)
    with TemporaryDirectory(prefix=f"streamrec-{name}-") as directory:
        folded = run_peer(
            python,
            _PROGRAMS[name],
            settings.require_kafka().bootstrap,
            CLICKS,
            directory,
            settings.partitions,
            events,
            settings.sequence_length,
        )
    if folded["events"] < events:
        raise StreamrecError(f"{name} folded {folded['events']} of {events} events")
    return float(folded["events"] / folded["seconds"])


def _check(end_s: float, name: str) -> None:
    if time.monotonic() > end_s:
        raise StreamrecError(f"{name} did not fold all events in {DEADLINE_S:.0f} s")
