"""The `recall` worker: `user-interests` become top-K lists in Redis and on `recommendations`.

Every process reads all of `items` and `model-updates`, and makes no list before it has caught up with them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import faust
import structlog

from streamrec.adapters.kafka import BatchSource, BroadcastReader, KafkaPublisher
from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore
from streamrec.adapters.redis.identity import RedisIdentity
from streamrec.contracts.topics import ITEMS, MODEL_UPDATES, USER_INTERESTS
from streamrec.domain.arms import assign_arm
from streamrec.errors import TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.metrics import ListMetrics, ServingMetrics, worker_metrics
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.service.batch import Batch, Positions, TopicPartition
from streamrec.service.clean_lists import CleanLists
from streamrec.service.largest_records import needs_of_recall
from streamrec.service.make_lists import ListMaker
from streamrec.service.rebuild_lists import RebuildLists
from streamrec.service.refresh_topk import RefreshTopK
from streamrec.service.tally import Tally
from streamrec.settings import Settings
from workers.checks import checked
from workers.identity import store_check
from workers.runtime import (
    GROUP_PREFIX,
    POLL_S,
    Background,
    ReadPositions,
    Store,
    count_refused,
    feed,
    new_app,
    persist_until,
    poll,
    run,
    run_in_background,
)

NAME = "recall"

MARKS_INTERVAL_S = 60.0
"""Interval at which all withdrawn items are marked in Redis again, to repair losses after a crash."""

GATHER_S = 2.0
"""Delay before a pass over all lists for withdrawn items. By then every worker has read the withdrawals and makes no
more lists with these items."""

CLEANING_SHARE = 0.25
"""Maximum share of one Redis connection's time used by a pass."""

_log = structlog.get_logger(__name__)


def build(settings: Settings) -> faust.App:
    """Return the worker's app."""
    kafka = settings.require_kafka()
    store = RedisTopKStore(
        settings.require_redis_url(),
        list_ttl_days=settings.list_ttl_days,
        hiding_ttl_days=settings.hiding_ttl_days,
        installation=settings.installation,
    )
    ranker = ModelRanker(hide_seen=settings.hide_seen)
    publisher, needs = KafkaPublisher(kafka), needs_of_recall(settings.top_k)
    maker = ListMaker(
        ranker,
        top_k=settings.top_k,
        arm_of=partial(assign_arm, settings.experiment, control_share=settings.control_share),
        now_ms=lambda: time.time_ns() // 1_000_000,
        weights=settings.weights,
    )
    refresh = RefreshTopK(store, publisher, maker)
    states = RedisInterestStore(
        settings.require_redis_url(), state_ttl_days=settings.state_ttl_days, installation=settings.installation
    )
    rebuilding = RebuildLists(store, states, KafkaPublisher(kafka), maker, ends=lambda: refresh.ends)
    serving = ServingMetrics()
    caught_up, admitted = threading.Event(), threading.Event()

    # a counter that starts at its first event shows no increase
    worker_metrics().record_outcomes(NAME, Tally(Counter({"unknown-deletion": 0})))

    def report() -> None:
        """Observe the freshness of a version that starts to serve."""
        if not serving.record_version(ranker.model_version):
            return
        if caught_up.is_set():
            worker_metrics().record_fresh("model", [ranker.newest_produced_at_ms], now_ms=time.time_ns() // 1_000_000)
        else:  # its age counts, but not the time until this worker started
            worker_metrics().record_newest("model", ranker.newest_produced_at_ms)

    def handle(batch: Batch) -> Positions:
        if not caught_up.wait(POLL_S):
            raise TransientError("the catalogue and the model are still being read")
        return refresh.handle(batch)

    identity = RedisIdentity(settings.require_redis_url(), installation=settings.installation)
    app = new_app(NAME)
    run_in_background(app, _following(refresh, kafka, caught_up, report))
    run_in_background(app, _in_background(rebuilding, ListMetrics(), [caught_up, admitted]))
    run_in_background(app, keep_clean(CleanLists(store.stored, publisher, store.marks), admitted))
    feed(
        app,
        open_source=partial(
            BatchSource, kafka=kafka, group=GROUP_PREFIX + NAME, topics=[USER_INTERESTS], topic_ids=store.topics
        ),
        store=Store(
            _telling(store.positions, admitted), store_check(settings, identity), checked(publisher, needs, store.check)
        ),
        handle=handle,
        tally=lambda: refresh.tally,
        when_idle=refresh.refresh_default,
    )
    return app


def _telling(positions: ReadPositions, admitted: threading.Event) -> ReadPositions:
    def read(sources: Sequence[TopicPartition]) -> Positions:
        admitted.set()  # the store's identity was checked before reading positions
        return positions(sources)

    return read


def _following(
    refresh: RefreshTopK, kafka: KafkaAccess, caught_up: threading.Event, report: Callable[[], None]
) -> Callable[[Background], None]:
    def begin_anew(topic: str, _topic_id: str) -> None:
        """Make no list until a re-created topic has been read; the current model continues to serve."""
        caught_up.clear()
        if topic == ITEMS:
            refresh.forget_catalogue()

    def follow(worker: Background) -> None:
        """Read the catalogue and model updates while the worker runs."""
        opened = partial(BroadcastReader, kafka=kafka, topics=[ITEMS, MODEL_UPDATES], on_recreated=begin_anew)
        reader = persist_until(worker.stopping, opened)
        marks_due_s = time.monotonic()
        try:
            while not worker.stopping.is_set():
                if reader.caught_up and (not caught_up.is_set() or time.monotonic() >= marks_due_s):
                    persist_until(worker.stopping, refresh.mark_all)
                    marks_due_s = time.monotonic() + MARKS_INTERVAL_S
                    caught_up.set()
                batch = poll(reader, worker)
                count_refused(NAME, reader.refused)
                if batch is not None:
                    persist_until(worker.stopping, partial(refresh.learn, batch))
                    worker_metrics().record_outcomes(NAME, refresh.learned)
                    report()
        finally:
            reader.close()

    return follow


def _in_background(
    rebuilding: RebuildLists, metrics: ListMetrics, conditions: Sequence[threading.Event]
) -> Callable[[Background], None]:
    def rebuild(worker: Background) -> None:
        """Rebuild outdated lists while the worker runs."""
        while not worker.stopping.is_set():
            if all(condition.wait(POLL_S) for condition in conditions):
                pause_s = persist_until(worker.stopping, rebuilding.step)
                metrics.record(rebuilding.facts, rebuilding.census, rebuilding.rebuilt)
                worker.stopping.wait(pause_s)

    return rebuild


def keep_clean(cleaning: CleanLists, admitted: threading.Event) -> Callable[[Background], None]:
    """Return the task that removes withdrawn items from stored lists, once the store's identity is checked."""

    def clean(worker: Background) -> None:
        while not worker.stopping.wait(GATHER_S):
            if not admitted.is_set():
                continue
            if not persist_until(worker.stopping, cleaning.is_needed) or worker.stopping.wait(GATHER_S):
                continue
            begun_s = time.monotonic()
            while persist_until(worker.stopping, cleaning.step):
                if worker.stopping.wait((time.monotonic() - begun_s) * (1 / CLEANING_SHARE - 1)):
                    return
                begun_s = time.monotonic()

    return clean


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    run(build, settings, worker=NAME)
