"""What decides whether the pipeline keeps up, seen at one instant: by the monitor again and again, by commands once."""

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
"""Records whose age is looked up by who looks once, and cannot look up the rest later."""

T = TypeVar("T")


class Eyes:
    """Sees servers, groups and workers; made and used in one event loop.

    Parameters
    ----------
    settings
        Say where everything is.
    others
        Whether groups that are not the pipeline's are seen, too.
    times_a_read
        Ages of so many records are looked up in a look.
    """

    def __init__(self, settings: Settings, *, others: bool = True, times_a_read: int = 128) -> None:
        self._servers = Servers(settings)
        self._reader = LagReader(settings.require_kafka(), others=others, times_a_read=times_a_read)
        self._scraper = Scraper(settings)
        self._watch = GroupWatch()
        self._lists = ListWatch(settings)
        self._data_dir = settings.data_dir
        self.servers = ["Kafka", *self._servers.names]
        """What is asked for a sign of life."""

    async def close(self) -> None:
        """Close all connections."""
        await self._scraper.close()
        await self._reader.close()

    async def look(self, now: Observation, *, patient: bool = False) -> None:
        """Look once, and put what is seen into the observation; what cannot be seen stays as it was seen last.

        All of it is put there at once: whoever reads the observation meanwhile sees one look, not parts of two.

        Parameters
        ----------
        now
            What is known.
        patient
            Whether a broker that has just started is given time to find out who leads what.
        """
        faults = await self._servers.faults()
        lag = await seen(when_loaded(self._reader.read) if patient else self._reader.read, "Kafka", faults)
        # a server that has not answered is not asked again: it may say nothing for seconds
        lists = None if "Redis" in faults else await seen(partial(asyncio.to_thread, self._lists.look), "Redis", faults)
        workers = await self._scraper.scrape()
        now.lists = lists or now.lists
        now.at_s, now.looks, now.faults, now.workers = time.time(), now.looks + 1, faults, workers
        now.unfit = {server: found.unfit for server, found in self._servers.conditions.items() if found.unfit}
        now.warnings = {server: found.warnings for server, found in self._servers.conditions.items() if found.warnings}
        now.seen_s, now.restarts = time.monotonic(), _restarts(self._data_dir)
        if lag is not None:
            now.read_s = now.seen_s
            now.lag, now.groups = lag, self._watch.look(lag, now.read_s)


async def look_at_letters(census: DeadLetterCensus, now: Observation, lag: Lag) -> None:
    """Count what was dead-lettered, and put it into the observation."""
    edges = {
        lag.partitions.sources[at]: (int(lag.start[at]), int(lag.end[at]))
        for at in lag.partitions.of(DEAD_LETTER_TOPICS).tolist()
    }
    if any(end for _, end in edges.values()):  # a consumer takes memory
        is_all = await seen(partial(asyncio.to_thread, census.look, edges), "Kafka", now.faults)
        now.letters, now.refused = census.newest, census.by_topic
        now.refused_are_all = census.is_complete and bool(is_all)


async def seen(look: Callable[[], Awaitable[T]], where: str, faults: dict[str, str]) -> T | None:
    """Return what is seen, or `None` and the fault that hides it."""
    try:
        return await look()
    except (StreamrecError, msgspec.DecodeError) as error:
        faults[where] = str(error).removeprefix(f"{where}: ")
        return None


def _restarts(data_dir: Path) -> dict[str, int]:
    """Return what `streamrec up` on this machine has restarted; nothing where it does not say so."""
    try:
        return restarts_of(data_dir)
    except StreamrecError:  # its addresses cannot be read either, and commands say so
        return {}


def look_once(settings: Settings) -> Observation:
    """Return what can be seen at once: servers, groups, what workers say of themselves, and dead letters.

    Raises
    ------
    SettingsError
        If there is no address of Kafka.
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
