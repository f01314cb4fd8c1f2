"""A single look, for commands."""

from __future__ import annotations

import asyncio
import time

from streamrec.adapters.kafka.lag import TIMES_ONCE, Lag, LagReader, when_loaded
from streamrec.errors import StreamrecError
from streamrec.monitor.groups import GroupWatch
from streamrec.monitor.observation import Observation
from streamrec.monitor.servers import Servers
from streamrec.settings import KafkaAccess, Settings


def look_once(settings: Settings) -> Observation:
    """Return what can be seen at once: servers and the pipeline's groups.

    Raises
    ------
    SettingsError
        If there is no address of Kafka.
    """
    kafka, servers = settings.require_kafka(), Servers(settings)
    seen = Observation(
        settings.lag_limit_s, at_s=time.time(), servers=["Kafka", *servers.names], faults=servers.faults()
    )
    try:
        seen.lag = asyncio.run(_read(kafka))
    except StreamrecError as error:
        seen.faults["Kafka"] = str(error).removeprefix("Kafka: ")
    else:
        seen.groups, seen.read_s = GroupWatch().look(seen.lag, 0.0), time.monotonic()
    return seen


async def _read(kafka: KafkaAccess) -> Lag:
    reader = LagReader(kafka, times_a_read=TIMES_ONCE)
    try:
        return await when_loaded(reader.read)()
    finally:
        await reader.close()
