"""The servers that streamrec needs, started where no address of another one is set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from streamrec.adapters.kafka import create_topics
from streamrec.adapters.postgres.migrate import migrate
from streamrec.errors import UsageError
from streamrec.local.guardian import Guardian
from streamrec.local.kafka_broker import start_kafka
from streamrec.local.kafka_jars import JarsUnavailableError
from streamrec.local.memory_broker import NAME as MEMORY_BROKER
from streamrec.local.memory_broker import start_memory_broker
from streamrec.local.postgres import start_postgres
from streamrec.local.server import Server
from streamrec.local.valkey import start_valkey
from streamrec.running import announced
from streamrec.settings import Settings, variable_name

EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Stack:
    """Servers that run.

    Parameters
    ----------
    settings
        The settings with all addresses filled in.
    broker
        Which Kafka it is: its name and version, or `external`.
    servers
        The servers that were started here, by the setting that names their address.
    guardian
        Starts processes that end with this one.
    """

    settings: Settings
    broker: str
    servers: dict[str, Server]
    guardian: Guardian = field(repr=False)


@contextmanager
def local_stack(settings: Settings, *, progress: bool, memory_broker_ok: bool = False) -> Iterator[Stack]:
    """Start what has no address yet, with topics and tables, and stop it again in the end.

    Parameters
    ----------
    settings
        Where `kafka`, `redis_url` or `postgres_url` is set, nothing is started for it.
    progress
        Whether downloads show a progress bar on standard error.
    memory_broker_ok
        Whether an in-memory broker will do where Apache Kafka cannot be fetched: it forgets everything.

    Raises
    ------
    UsageError
        If another process runs a stack on the same data directory, or a local broker is to ask for a login.
    StreamrecError
        If a server does not start.
    """
    if settings.kafka is None and settings.kafka_security_protocol != "PLAINTEXT":
        raise UsageError(
            f"{variable_name('kafka_security_protocol')} is for a broker of yours: set {variable_name('kafka')} to its "
            "address; the one that is started here has neither TLS nor a login"
        )
    directory = settings.data_dir.expanduser().resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        _lock(directory, cleanup)
        guardian = cleanup.enter_context(Guardian())
        servers = _start(settings, directory, guardian, cleanup, progress=progress, memory_broker_ok=memory_broker_ok)
        addresses = {name: server.address for name, server in servers.items()}
        filled = settings.model_copy(update={"data_dir": directory}).with_addresses(addresses)
        broker = servers["kafka"].name if "kafka" in servers else EXTERNAL
        if broker != MEMORY_BROKER:  # which made its topics itself
            create_topics(filled.require_kafka(), filled.partitions, filled.replication)
        migrate(filled.require_postgres_url(), installation=filled.installation)
        cleanup.enter_context(announced(directory, addresses))
        yield Stack(filled, broker, servers, guardian)


def _lock(directory: Path, cleanup: ExitStack) -> None:
    try:
        cleanup.enter_context(FileLock(directory / "stack.lock", timeout=0))
    except Timeout:
        raise UsageError(
            f"streamrec already runs on {directory}; stop it, or set {variable_name('data_dir')} to another directory"
        ) from None


def _start(
    settings: Settings,
    directory: Path,
    guardian: Guardian,
    cleanup: ExitStack,
    *,
    progress: bool,
    memory_broker_ok: bool,
) -> dict[str, Server]:
    """Start the missing servers at the same time; each one is stopped when `cleanup` is left."""

    def start_broker() -> Server:
        try:
            return start_kafka(directory / "kafka", guardian, progress=progress)
        except JarsUnavailableError as error:
            if not memory_broker_ok:
                raise
            sys.stderr.write(f"streamrec: {error}; going on with an in-memory broker, which forgets everything\n")
            return start_memory_broker(directory / "kafka", guardian)

    starters = {
        "kafka": start_broker,
        "redis_url": lambda: start_valkey(directory / "valkey", guardian),
        "postgres_url": lambda: start_postgres(directory / "postgres", guardian),
    }
    with ThreadPoolExecutor() as pool:
        starting = {name: pool.submit(start) for name, start in starters.items() if getattr(settings, name) is None}
    servers: dict[str, Server] = {}
    for name, future in starting.items():
        if future.exception() is None:
            servers[name] = future.result()
            cleanup.callback(_stop, servers, name)
    for future in starting.values():
        future.result()
    return servers


def _stop(servers: dict[str, Server], name: str) -> None:
    """Stop the server that has this name when the time comes: it may have been started again meanwhile."""
    servers[name].stop()
