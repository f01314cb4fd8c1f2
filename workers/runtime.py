"""Runtime of all workers: a thread consumes Kafka in batches, a Faust agent applies them in order.

The thread sends a batch to the agent's channel and waits for the store's positions, so at most one batch is in flight
and nothing is acknowledged out of order. A transient failure is retried indefinitely while the partition waits; any
other failure ends the process, and its successor resumes from the store's positions.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import faust
import structlog
import tenacity
from faust.app.base import BootStrategy
from mode import CrashingSupervisor

from streamrec import logs
from streamrec.adapters.kafka import BatchSource
from streamrec.errors import TooManyDeadLettersError, TransientError
from streamrec.metrics import PAUSED, WAITING, exported, reader_metrics, standstill, worker_metrics
from streamrec.service.batch import Batch, Positions, TopicPartition
from streamrec.service.tally import Tally
from streamrec.settings import Settings
from workers.dropped_fields import DroppedFields
from workers.readiness import paused
from workers.servers import ReadPositions, Store, ask_servers
from workers.waiting import (
    GROUP_PREFIX,
    PAUSE_REMINDER_S,
    POLL_S,
    Background,
    count_refused,
    persist_until,
    poll,
    while_away,
    while_right,
)

__all__ = [
    "GROUP_PREFIX",
    "POLL_S",
    "Background",
    "ReadPositions",
    "Store",
    "count_refused",
    "feed",
    "new_app",
    "persist_until",
    "poll",
    "run",
    "run_in_background",
]

KEEP_ALIVE_S = 10.0
"""During batches longer than this, the group membership is kept alive."""

GARBAGE_AFTER = 50_000
"""Threshold of the cyclic garbage collector: batches create no cycles, libraries few."""

NICENESS = 10
"""Niceness of low-priority workers: about a tenth of the CPU time under contention."""

_AUTOGROUP = Path("/proc/self/autogroup")

_log = structlog.get_logger(__name__)


class Delivery(NamedTuple):
    """A batch sent to the agent, with a future for the store's positions after it."""

    batch: Batch
    settled: Future[Positions]


class _ChannelsOnly(BootStrategy):
    """Start neither Faust's Kafka clients nor its web server: agents only read channels."""

    enable_kafka = False
    enable_web = False


def new_app(name: str) -> faust.App:
    """Return a Faust app that opens no connection by itself."""
    app = faust.App(
        GROUP_PREFIX + name,
        broker="kafka://unused",
        web_enabled=False,
        datadir=str(Path(gettempdir()) / "streamrec-faust"),  # created but not used
    )
    app.boot_strategy = _ChannelsOnly(app)
    return app


def run(build: Callable[[Settings], faust.App], settings: Settings, *, worker: str, gives_way: bool = False) -> None:
    """Build a worker's app and run it until SIGTERM or SIGINT; a permanent error ends the process with exit code 1.

    With `gives_way` it only uses CPU time left by workers that lists depend on, once it is built.
    """
    logs.configure(settings.log_level, worker=worker)
    app = build(settings)
    if gives_way:
        _give_way()
    gc.set_threshold(GARBAGE_AFTER)
    with exported(settings, worker):
        faust.Worker(app, quiet=True, override_logging=False, redirect_stdouts=False).execute_from_commandline()


def _give_way() -> None:
    os.nice(NICENESS)
    # Linux may divide CPU time between sessions first (sched_autogroup), so lower the priority of the session, too
    if _AUTOGROUP.exists() and os.getsid(0) == os.getpid():
        _AUTOGROUP.write_text(str(NICENESS))


def feed(
    app: faust.App,
    *,
    open_source: Callable[..., BatchSource],
    store: Store,
    handle: Callable[[Batch], Positions],
    tally: Callable[[], Tally] = Tally,
    when_idle: Callable[[], None] = lambda: None,
) -> None:
    """Add to an app an agent that processes batches, and the thread that consumes them.

    Parameters
    ----------
    open_source
        Opens the source with the argument `positions`, which reads positions. While a topic is not the one that the
        store's positions refer to, it is closed and reopened periodically.
    store
        The store of the effects of batches.
    handle
        Applies a batch and returns the store's positions; it blocks the event loop.
    tally
        Returns the counts of the last batch.
    when_idle
        Called by the consumer thread after a second without a record, for work deferred to the end of a burst.
    """
    channel = app.channel(maxsize=1)
    metrics = worker_metrics()
    worker_name = app.conf.id.removeprefix(GROUP_PREFIX)
    dropped = DroppedFields()

    def report(batch: Batch, done: Tally, seconds: float) -> None:
        """Log one line per batch, and count it."""
        now_ms = time.time_ns() // 1_000_000
        metrics.record_batch(worker_name, len(batch), done, seconds=seconds, now_ms=now_ms)
        _log.info(
            "batch",
            records=len(batch),
            partitions=len(batch.slices),
            duration_ms=round(seconds * 1_000, 1),
            oldest_ms=now_ms - min((record.timestamp_ms for _, record in batch), default=now_ms),
            **{outcome.replace("-", "_"): count for outcome, count in done.outcomes.items()},
            **{f"{topic}_{reason}": count for (topic, reason), count in done.refused.items()},
            **{f"{topic}_shortened": count for topic, count in done.shortened.items()},
        )
        dropped.tell(done.dropped)

    @app.agent(channel, supervisor_strategy=CrashingSupervisor)
    async def apply(deliveries: faust.StreamT[Delivery]) -> None:
        async for batch, settled in deliveries:
            begun_s = time.monotonic()
            settled.set_result(await _persist(app.conf.id, partial(handle, batch)))
            report(batch, tally(), time.monotonic() - begun_s)

    def read(worker: Background) -> None:
        def stored(sources: Sequence[TopicPartition]) -> Positions:
            return persist_until(worker.stopping, partial(store.positions, sources))

        def work(source: BatchSource) -> None:
            look_due_s = time.monotonic() + POLL_S
            while not worker.stopping.is_set():
                batch = poll(source, worker)
                if batch is not None:
                    source.settle(_hand_over(batch, channel, worker, source))
                if batch is None or time.monotonic() >= look_due_s:
                    _look_after(source, store, when_idle if batch is None else None)
                    reader_metrics().record_stopped(worker_name, source.stopped)
                    look_due_s = time.monotonic() + POLL_S

        ask_servers(worker, app.conf.id, store)
        while_right(app.conf.id, worker, partial(open_source, positions=stored), work)

    run_in_background(app, read)


def run_in_background(app: faust.App, work: Callable[[Background], None]) -> None:
    """Run blocking work in a separate thread, from the start of the app until the work sees `stopping` set.

    Work that waits for a server on shutdown ends with a `TransientError`, which is not a failure.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=work.__name__)

    def until_stopped(background: Background) -> None:
        try:
            work(background)
        except TransientError as error:
            if not background.stopping.is_set():
                raise
            _log.info("stopped while waiting", because=str(error))

    @app.task  # type: ignore[untyped-decorator]
    async def start() -> None:
        app.flow_control.resume()  # channels do not deliver before; normally done by Faust's consumer
        loop = asyncio.get_running_loop()
        background = Background(loop, threading.Event())
        running = loop.run_in_executor(thread, until_stopped, background)
        try:
            await asyncio.shield(running)
        finally:
            background.stopping.set()
            await running


def _look_after(source: BatchSource, store: Store, when_idle: Callable[[], None] | None) -> None:
    """Seek to the store's positions: a crashed store may have lost its latest writes.

    In a quiet partition no further record would reveal it.
    """
    try:
        store.identity.keep()
        source.settle(dict.fromkeys(source.sources, 0) | store.positions(source.sources))
        if when_idle:
            when_idle()
    except TransientError as error:
        _log.warning("not now", because=str(error))  # retried next time


def _hand_over(batch: Batch, channel: faust.ChannelT[Delivery], worker: Background, source: BatchSource) -> Positions:
    """Send a batch to the agent and wait until it is applied; do nothing more if the worker stops meanwhile."""
    delivery = Delivery(batch, Future())
    asyncio.run_coroutine_threadsafe(channel.send(value=delivery), worker.loop)
    handed_over_s = time.monotonic()
    while not worker.stopping.is_set():
        try:
            return delivery.settled.result(POLL_S)
        except TimeoutError:
            if time.monotonic() - handed_over_s >= KEEP_ALIVE_S:
                source.keep_alive()
    return {}


async def _persist(app_id: str, work: Callable[[], Positions]) -> Positions:
    """Run the work in this thread, retrying while stores or the broker are unavailable; pause on too many dead letters.

    A separate thread would wait twice more for the GIL, and nothing else has to run meanwhile. A paused worker stays a
    member of its group, so that its partitions wait for the next release.
    """
    try:
        with standstill().of(WAITING) as say:
            async for attempt in tenacity.AsyncRetrying(**while_away(say)):
                with attempt:
                    return work()
    except TooManyDeadLettersError as error:
        with paused(app_id, str(error)), standstill().of(PAUSED) as say:
            say(str(error))
            while True:
                _log.error("paused", because=str(error))
                await asyncio.sleep(PAUSE_REMINDER_S)
    raise AssertionError("tenacity retries indefinitely")
