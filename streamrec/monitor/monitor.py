"""The monitor's polling loop, which survives every error it observes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from streamrec.adapters.kafka.dead_letter_census import DeadLetterCensus
from streamrec.adapters.kafka.group_lag import Lag
from streamrec.adapters.kafka.model_versions import read_model_versions
from streamrec.adapters.postgres import RetentionReader, RetentionReport
from streamrec.contracts.model_version import ModelVersions
from streamrec.contracts.topics import MODEL_VERSIONS
from streamrec.domain.arms import CONTROL, PERSONAL
from streamrec.monitor.look import Eyes, look_at_letters, seen
from streamrec.monitor.observation import Observation
from streamrec.monitor.scrape import Scraped
from streamrec.settings import Settings

LOOK_S = 1.5
"""Polling interval."""

SHOWN_LETTERS = 20
"""Number of the latest dead letters kept per topic."""

RETENTION_PAUSE_S = 60.0
RETENTION_SHARE = 20
"""Retention is read at most once per minute, and for at most a twentieth of the time, since it reads all activity."""

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Monitor:
    """Polls groups, workers, servers, dead letters, model versions and retention.

    Parameters
    ----------
    settings
        Settings with all addresses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kafka = settings.require_kafka()
        self._census = DeadLetterCensus(self._kafka, newest=SHOWN_LETTERS)
        self._seen_ends: dict[str, int] = {}
        self.now = Observation(settings.lag_limit_s)
        self.looked = asyncio.Condition()
        """Notified after each poll."""

    async def run(self) -> None:
        """Poll until cancelled."""
        eyes = Eyes(self._settings)
        self.now.servers = eyes.servers
        retention = asyncio.create_task(self._follow_retention())
        try:
            while True:
                begun_s = time.monotonic()
                await self._look(eyes)
                async with self.looked:
                    self.looked.notify_all()
                await asyncio.sleep(max(0.1, LOOK_S - (time.monotonic() - begun_s)))
        finally:
            retention.cancel()
            await eyes.close()
            self._census.close()

    async def _look(self, eyes: Eyes) -> None:
        """Poll once; what is unavailable keeps its last state, and is listed among the faults."""
        now, before, warned = self.now, self.now.faults, self.now.server_warnings
        await eyes.look(now)
        if now.faults.keys() != before.keys():
            _log.warning("faults", **now.faults) if now.faults else _log.info("all servers answer")
        if now.server_warnings != warned:
            _log.warning("servers", **now.server_warnings)
        now.totals.take(now.seen_s, {_process(worker): worker.counters for worker in now.workers})
        if now.lag is not None and "Kafka" not in now.faults:
            await look_at_letters(self._census, now, now.lag)
            await self._look_at_versions(now.lag)
        now.record()

    async def _look_at_versions(self, lag: Lag) -> None:
        def read() -> tuple[ModelVersions | None, Counter[tuple[str, str]]]:
            refused: Counter[tuple[str, str]] = Counter()
            return read_model_versions(self._kafka, refused), refused

        found = await self._read_if_moved(lag, [MODEL_VERSIONS], read)
        if found is not None:
            newest, self.now.unreadable = found
            self.now.versions = newest or self.now.versions

    async def _read_if_moved(self, lag: Lag, topics: Sequence[str], read: Callable[[], T | None]) -> T | None:
        """Read topics that have new records."""
        end = int(lag.end[lag.partitions.of(topics)].sum())
        if end == self._seen_ends.get(topics[0], 0):
            return None
        found = await seen(partial(asyncio.to_thread, read), "Kafka", self.now.faults)
        if found is not None:
            self._seen_ends[topics[0]] = end
        return found

    async def _follow_retention(self) -> None:
        """Read retention periodically, if any activity is recorded."""
        if self._settings.postgres_url is None:
            return
        url, installation = self._settings.require_postgres_url(), self._settings.installation
        reader = RetentionReader(url, installation=installation)
        handled, told = -1, dict[str, str]()
        while True:
            begun_s = time.monotonic()
            moved = sum(int(g.partitions.committed.sum()) for g in self.now.groups if g.name == "streamrec-retention")
            if moved != handled:
                faults: dict[str, str] = {}
                reports = await seen(partial(asyncio.to_thread, _read_retention, reader), "retention", faults)
                if reports is not None:
                    self.now.retention, handled = reports, moved
                if faults and faults != told:
                    _log.warning("not read", **faults)
                told = faults
            took_s = time.monotonic() - begun_s
            known = "" in self.now.retention and self.now.retention[""].days
            pause_s = max(RETENTION_PAUSE_S if known else LOOK_S, RETENTION_SHARE * took_s)
            await asyncio.sleep(pause_s)


def _read_retention(reader: RetentionReader) -> dict[str, RetentionReport]:
    reports = {"": reader.report()}
    arms = {arm.arm for arm in reports[""].arms}
    if len(arms) > 1:
        reports |= {arm: reader.report(arm) for arm in (PERSONAL, CONTROL)}
    return reports


def _process(worker: Scraped) -> str:
    started = worker.gauge("process_start_time_seconds")
    return f"{worker.endpoint.worker} {worker.endpoint.host}:{worker.endpoint.port} {started}"
