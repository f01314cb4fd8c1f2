"""A poll of everything that determines health: repeatedly by the monitor, once by commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from streamrec.adapters.kafka.dead_letter_census import DeadLetterCensus
from streamrec.adapters.kafka.dead_letters import DEAD_LETTER_TOPICS
from streamrec.adapters.kafka.group_lag import Lag
from streamrec.adapters.kafka.lag import LagReader, when_loaded
from streamrec.errors import StreamrecError
from streamrec.monitor.groups import GroupWatch
from streamrec.monitor.lists import ListWatch
from streamrec.monitor.observation import Observation
from streamrec.monitor.scrape import Scraper
from streamrec.monitor.servers import Servers
from streamrec.running import restarts_of
from streamrec.settings import Settings

TIMES_ONCE = 10_000
"""Record times looked up by a single poll, which cannot look up the rest later."""

T = TypeVar("T")


class Eyes:
    """Polls servers, groups and workers; must be created and used in the same event loop.

    Parameters
    ----------
    settings
        Settings with all addresses.
    others
        Whether to include groups that do not belong to the pipeline.
    times_a_read
        Number of record times to look up per poll.
    """

    def __init__(self, settings: Settings, *, others: bool = True, times_a_read: int = 128) -> None:
        self._servers = Servers(settings)
        self._reader = LagReader(settings.require_kafka(), others=others, times_a_read=times_a_read)
        self._scraper = Scraper(settings)
        self._watch = GroupWatch()
        self._lists = ListWatch(settings)
        self._data_dir = settings.data_dir
        self.servers = ["Kafka", *self._servers.names]
        """The servers to check."""

    async def close(self) -> None:
        """Close all connections."""
        await self._scraper.close()
        await self._reader.close()

    async def look(self, now: Observation, *, patient: bool = False) -> None:
        """Poll once and update the observation; what is unavailable keeps its last state.

        The update is atomic: concurrent readers of the observation never see parts of two polls.

        Parameters
        ----------
        now
            The observation to update.
        patient
            Whether to wait for a broker that has just started to learn its partition leaders.
        """
        faults = await self._servers.faults()
        lag = await seen(when_loaded(self._reader.read) if patient else self._reader.read, "Kafka", faults)
        # a server that has not answered yet is not asked again: it may take seconds
        lists = None if "Redis" in faults else await seen(partial(asyncio.to_thread, self._lists.look), "Redis", faults)
        workers = await self._scraper.scrape()
        now.lists = lists or now.lists
        now.at_s, now.looks, now.faults, now.workers = time.time(), now.looks + 1, faults, workers
        now.unfit = {server: found.unfit for server, found in self._servers.conditions.items() if found.unfit}
        now.server_warnings = {
            server: found.warnings for server, found in self._servers.conditions.items() if found.warnings
        }
        now.seen_s, now.restarts = time.monotonic(), _restarts(self._data_dir)
        if lag is not None:
            now.read_s = now.seen_s
            now.lag, now.groups = lag, self._watch.look(lag, now.read_s)


async def look_at_letters(census: DeadLetterCensus, now: Observation, lag: Lag) -> None:
    """Count dead letters, and update the observation."""
    edges = {
        lag.partitions.sources[at]: (int(lag.start[at]), int(lag.end[at]))
        for at in lag.partitions.of(DEAD_LETTER_TOPICS).tolist()
    }
    if any(end for _, end in edges.values()):  # a consumer takes memory
        is_all = await seen(partial(asyncio.to_thread, census.look, edges), "Kafka", now.faults)
        now.letters, now.refused = census.newest, census.by_topic
        now.refused_are_all = census.is_complete and bool(is_all)


async def seen(look: Callable[[], Awaitable[T]], where: str, faults: dict[str, str]) -> T | None:
    """Return the result, or `None` and the fault."""
    try:
        return await look()
    except (StreamrecError, msgspec.DecodeError) as error:
        faults[where] = str(error).removeprefix(f"{where}: ")
        return None


def _restarts(data_dir: Path) -> dict[str, int]:
    """Return the restarts by `streamrec up` on this machine; empty if unknown."""
    try:
        return restarts_of(data_dir)
    except StreamrecError:  # its addresses cannot be read either, which commands report
        return {}


def look_once(settings: Settings) -> Observation:
    """Poll servers, groups, workers' metrics and dead letters once.

    Raises
    ------
    SettingsError
        If the address of Kafka is not set.
    """

    async def look() -> Observation:
        eyes = Eyes(settings, others=False, times_a_read=TIMES_ONCE)
        now = Observation(settings.lag_limit_s, servers=eyes.servers)
        census = DeadLetterCensus(settings.require_kafka(), newest=1)
        try:
            await eyes.look(now, patient=True)
            if now.lag is not None:
                await look_at_letters(census, now, now.lag)
        finally:
            await eyes.close()
            census.close()
        return now

    return asyncio.run(look())
