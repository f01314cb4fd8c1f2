"""Bad records under load: each becomes a dead letter with the right reason, without slowing down good ones."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import median

from confluent_kafka import Producer
from msgspec import Struct

from streamrec.adapters.kafka.client import client_config
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of
from streamrec.adapters.redis import RedisInterestStore
from streamrec.chaos.cast import Cast
from streamrec.chaos.load import Produced, produce, records
from streamrec.chaos.oracle import read_all
from streamrec.chaos.patience import PATIENCE_S
from streamrec.contracts.topics import EVENT_TOPICS, dead_letter_topic
from streamrec.errors import StreamrecError
from streamrec.kafka_access import KafkaAccess
from streamrec.local import local_stack
from streamrec.local.stack import Stack
from streamrec.service.batch import TopicPartition
from streamrec.settings import Settings

LOOK_S = 0.005
MAX_SLOWDOWN = 0.1


class PoisonFigures(Struct, kw_only=True):
    """Effects of bad records."""

    events: int
    """Number of bad records per round."""
    poison: int
    dead_letters: dict[str, int]
    """By reason."""
    wrong: int
    """Bad records without a dead letter with the right reason, and unexplained dead letters."""
    clean_per_s: float
    poisoned_per_s: float
    """Good events/s folded by `interests`, median over the rounds."""
    slowdown: float

    @property
    def passed(self) -> bool:
        """Whether all dead letters are correct and the slowdown is within its limit."""
        return not self.wrong and self.slowdown <= MAX_SLOWDOWN


def run(*, events: int, poison_share: float, rounds: int, directory: Path) -> PoisonFigures:
    """Fold the same number of events with and without bad records, alternating, each from a backlog.

    Parameters
    ----------
    events
        Good events per round.
    poison_share
        Bad records per good event, with all kinds equally frequent.
    rounds
        Rounds of each kind.
    directory
        Data directory.
    """
    speeds: dict[bool, list[float]] = {False: [], True: []}
    bad: list[Produced] = []
    with local_stack(Settings.for_own_servers(data_dir=directory), progress=False) as stack:
        for turn in range(2 * rounds):
            poisoned = turn % 2 == 1
            made = list(islice(records(turn, poison_share=poison_share if poisoned else 0.0), events))
            flat = [record for together in made for record in together]
            bad += [record for record in flat if record.reason]
            _produce(stack.settings.require_kafka(), flat)
            with Cast(stack, directory / f"turn-{turn}") as cast:
                seconds = _fold(stack, cast)
            speeds[poisoned].append(events / seconds)
        found = _letters(stack.settings.require_kafka())
    expected = Counter((record.reason, record.value or b"") for record in bad)
    clean, poisoned_per_s = (median(speeds[kind]) for kind in (False, True))
    reasons: Counter[str] = Counter()
    for (reason, _), count in found.items():
        reasons[reason] += count
    return PoisonFigures(
        events=events,
        poison=len(bad),
        dead_letters=dict(reasons),
        wrong=(expected - found).total() + (found - expected).total(),
        clean_per_s=round(clean),
        poisoned_per_s=round(poisoned_per_s),
        slowdown=round(1 - poisoned_per_s / clean, 3),
    )


def _produce(kafka: KafkaAccess, made: list[Produced]) -> None:
    producer = Producer(client_config(kafka) | {"partitioner": "murmur2_random", "linger.ms": 5})
    for record in made:
        produce(producer, record)
    if producer.flush(PATIENCE_S):
        raise StreamrecError("the broker did not accept all events")


def _fold(stack: Stack, cast: Cast) -> float:
    """Let a worker fold the backlog, and return the seconds from its first batch to its last."""
    kafka = stack.settings.require_kafka()
    store = RedisInterestStore(stack.settings.require_redis_url(), state_ttl_days=stack.settings.state_ttl_days)
    observer = open_observer(kafka)
    ends = end_offsets(observer, partitions_of(observer, EVENT_TOPICS))
    observer.close()
    sources: list[TopicPartition] = list(ends)
    before = _read(store, sources)
    total = sum(ends.values()) - before
    cast.start("interests")
    give_up_s = time.monotonic() + PATIENCE_S
    first: tuple[float, int] | None = None
    while (read := _read(store, sources) - before) < total:
        if first is None and read:
            first = time.monotonic(), read
        if time.monotonic() > give_up_s:
            raise StreamrecError(f"after {PATIENCE_S:.0f} s {total - read} records wait; see {cast.log_dir}")
        time.sleep(LOOK_S)
    if first is None:
        raise StreamrecError("all events were in one batch: use more events")
    started_s, already = first
    # the first batch was folded before timing started
    return (time.monotonic() - started_s) * total / (total - already)


def _read(store: RedisInterestStore, sources: list[TopicPartition]) -> int:
    return sum(store.positions(sources).values())


def _letters(kafka: KafkaAccess) -> Counter[tuple[str, bytes]]:
    return Counter(
        (record.headers["dlq.reason"].decode(), record.value or b"")
        for _, record in read_all(kafka, [dead_letter_topic(topic) for topic in EVENT_TOPICS])
    )
