"""A single look, for commands."""

from __future__ import annotations

import asyncio
import time

from streamrec.adapters.kafka.lag import look_at_lag
from streamrec.errors import StreamrecError
from streamrec.monitor.groups import GroupWatch
from streamrec.monitor.observation import Observation
from streamrec.monitor.servers import Servers
from streamrec.settings import Settings


def look_once(settings: Settings) -> Observation:
    """Return what can be seen at once: servers and the pipeline's groups.

    Raises
    ------
    SettingsError
        If there is no address of Kafka.
    """
    kafka, servers = settings.require_kafka(), Servers(settings)
    seen = Observation(
        settings.lag_limit_s, at_s=time.time(), servers=["Kafka", *servers.names], faults=asyncio.run(servers.faults())
    )
    try:
        lag = look_at_lag(kafka)
    except StreamrecError as error:
        seen.faults["Kafka"] = str(error).removeprefix("Kafka: ")
    else:
        seen.lag, seen.groups, seen.read_s = lag, GroupWatch().look(lag, 0.0), time.monotonic()
    return seen
