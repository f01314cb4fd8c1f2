"""Backfill: a history is produced at full speed, until every list includes it and the pipeline is healthy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import numpy as np

from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.redis import RedisListMarks, TopKReader
from streamrec.bench.population import HISTORY_DAYS, Population, item_name, user_name
from streamrec.contracts.incoming import Click
from streamrec.domain.interest import DAY_MS
from streamrec.errors import StreamrecError
from streamrec.monitor.look import look_once
from streamrec.monitor.observation import Observation
from streamrec.playback.records import event_record
from streamrec.settings import Settings

LIST_WORKERS = ("interests", "recall")

PATIENCE_S = 1_800.0
"""If lag and waiting lists do not change for this long, the pipeline does not recover."""

_EVENTS_AT_A_TIME = 5_000
_USERS_AT_A_TIME = 500
_POLL_S = 1.0

Report = Callable[[int], None]


class Backfill(msgspec.Struct, kw_only=True):
    """Results of a backfill; times are relative to its first event."""

    events: int
    users: int
    """Number of users in it."""
    produced_s: float
    """Until Kafka had all events."""
    read_s: float
    """Until `interests` and `recall` had read all of them."""
    healthy_s: float
    """Until the pipeline reported healthy."""
    unfinished_lists: int
    """Lists that were short, or made by a version that lacked events, when the pipeline first reported healthy."""


def measure(population: Population, settings: Settings, events: int, report: Report) -> Backfill:
    """Produce one click, wait for its list, then produce a history and wait until the pipeline is healthy.

    Parameters
    ----------
    settings
        Settings of a running pipeline that has read nothing yet.
    report
        Called with the number of produced events.

    Raises
    ------
    StreamrecError
        If the pipeline does not become healthy.
    """
    publisher = KafkaPublisher(settings.require_kafka())
    reader = TopKReader(settings.require_redis_url())
    publisher.publish([event_record(next(_clicks(population, 1))[0])])
    _wait_for_list(reader)
    met: set[str] = set()

    def produce() -> float:
        sent = 0
        for chunk in _clicks(population, events):
            met.update(click.user_id for click in chunk)
            publisher.publish([event_record(click) for click in chunk])
            sent += len(chunk)
            report(sent)
        return time.monotonic()

    begun_s = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        producing = pool.submit(produce)
        read_s, healthy_s = _watch(settings, producing, begun_s)
    return Backfill(
        events=events,
        users=len(met),
        produced_s=round(producing.result() - begun_s, 1),
        read_s=round(read_s, 1),
        healthy_s=round(healthy_s, 1),
        unfinished_lists=_unfinished(settings, reader, sorted(met)),
    )


def _clicks(population: Population, events: int) -> Iterator[list[Click]]:
    """Yield the clicks of two weeks in chronological order, in chunks."""
    rng = np.random.default_rng(population.seed)
    end_ms = time.time_ns() // 1_000_000
    step_ms = HISTORY_DAYS * DAY_MS / events
    for start in range(0, events, _EVENTS_AT_A_TIME):
        count = min(_EVENTS_AT_A_TIME, events - start)
        users = rng.integers(population.users, size=count)
        items = population.draw_items(users, count, rng)
        times_ms = (end_ms - (events - start - np.arange(count)) * step_ms).astype(np.int64)
        yield [
            Click(user_id=user_name(user), item_id=item_name(item), event_time_ms=time_ms)
            for user, item, time_ms in zip(users.tolist(), items.tolist(), times_ms.tolist(), strict=True)
        ]


def _wait_for_list(reader: TopKReader) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not (default := reader.read("")) or not default.model_version:
        if time.monotonic() > end_s:
            raise StreamrecError(f"no model made a list within {PATIENCE_S:.0f} s")
        time.sleep(_POLL_S)


def _watch(settings: Settings, producing: Future[float], begun_s: float) -> tuple[float, float]:
    """Return the seconds until everything was read, and until the pipeline reported healthy."""
    read_s, seen, changed_s = 0.0, None, begun_s
    while True:
        is_produced = producing.done()
        if is_produced:
            producing.result()  # raises what went wrong
        now = look_once(settings)
        now_s = time.monotonic()
        if is_produced and not read_s and not _lag(now):
            read_s = now_s - begun_s
        # healthy before the last event is in Kafka does not count
        if is_produced and now.verdict["ready"]:
            return read_s or now_s - begun_s, now_s - begun_s
        state = (_lag(now), now.lists)
        if state != seen or not is_produced:
            seen, changed_s = state, now_s
        elif now_s - changed_s > PATIENCE_S:
            raise StreamrecError(f"nothing changed for {PATIENCE_S:.0f} s: {'; '.join(now.verdict['causes'])}")
        time.sleep(_POLL_S)


def _lag(now: Observation) -> int:
    return sum(group.lag for group in now.groups if group.name in LIST_WORKERS)


def _unfinished(settings: Settings, reader: TopKReader, users: list[str]) -> int:
    """Count lists that are missing, short, or made by a version other than one that has learned everything."""
    facts = RedisListMarks(settings.require_redis_url()).facts()
    if facts.lacking:
        return len(users)
    unfinished = 0
    for start in range(0, len(users), _USERS_AT_A_TIME):
        for topk in reader.read_many(users[start : start + _USERS_AT_A_TIME]):
            # users without a list get the default one
            is_best = (
                topk is not None
                and topk.user_id
                and len(topk.items) == settings.top_k
                and topk.model_version == facts.version
            )
            unfinished += not is_best
    return unfinished
