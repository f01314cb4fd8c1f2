"""The servers that streamrec needs, started unless their address is set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from streamrec.adapters.kafka import create_topics
from streamrec.adapters.postgres.migrate import migrate
from streamrec.environment import variable_name
from streamrec.errors import StreamrecError, UsageError
from streamrec.local.guardian import Guardian
from streamrec.local.kafka_broker import start_kafka
from streamrec.local.kafka_jars import JarsUnavailableError
from streamrec.local.loops import compiled_meanwhile
from streamrec.local.memory_broker import NAME as MEMORY_BROKER
from streamrec.local.memory_broker import start_memory_broker
from streamrec.local.postgres import start_postgres
from streamrec.local.server import Server, is_free
from streamrec.local.valkey import start_valkey
from streamrec.running import LOCK, Announcement, announced
from streamrec.service.largest_records import created_limits
from streamrec.settings import Settings

EXTERNAL = "external"

USUAL_PORTS = {"kafka": 9092, "redis_url": 6379, "postgres_url": 5432}
"""Default ports of servers, by the setting with their address."""

LOCK_TIMEOUT_S = 0.5
"""Checks for a running stack hold the lock briefly."""

Start = Callable[[], Server]


@dataclass(frozen=True, slots=True)
class Stack:
    """Running servers.

    Parameters
    ----------
    settings
        The settings with all addresses filled in.
    broker
        Name and version of Kafka, or `external`.
    servers
        Servers started here, by the setting with their address.
    guardian
        Guardian of processes that end with this one.
    announcement
        Announcement for other terminals.
    """

    settings: Settings
    broker: str
    servers: dict[str, Server]
    guardian: Guardian = field(repr=False)
    announcement: Announcement = field(repr=False)
    _starters: Mapping[str, Start] = field(repr=False)

    @property
    def durable(self) -> list[str]:
        """Servers that keep their data across restarts."""
        return [name for name in self.servers if name in self._starters]

    def start(self, name: str) -> None:
        """Restart a stopped server on its data, at the same address.

        Raises
        ------
        StreamrecError
            If it does not start, or another program has taken its port.
        """
        before = self.servers[name]
        if not is_free(before.port):
            raise StreamrecError(f"another program has taken port {before.port} of {before.name}")
        server = self._starters[name]()
        if server.address != before.address:  # taken just after the check
            server.stop()
            raise StreamrecError(f"another program has taken port {before.port} of {before.name}")
        self.servers[name] = server


@contextmanager
def local_stack(
    settings: Settings, *, progress: bool, memory_broker_ok: bool = False, ports: Mapping[str, int] | None = None
) -> Iterator[Stack]:
    """Start servers without an address, with topics and tables, and stop them on exit.

    Parameters
    ----------
    settings
        Settings; servers whose `kafka`, `redis_url` or `postgres_url` is set are not started.
    progress
        Whether to show progress of downloads on standard error, and to compile the workers' loops meanwhile.
    memory_broker_ok
        Whether to fall back to an in-memory broker, which keeps no data, if Apache Kafka cannot be downloaded.
    ports
        Preferred port of each server at its first start on the data directory, by the setting with its address; any
        free one by default.

    Raises
    ------
    UsageError
        If another process runs a stack on the same data directory, or authentication is set for a local broker.
    StreamrecError
        If a server does not start.
    """
    if settings.kafka is None and settings.kafka_security_protocol != "PLAINTEXT":
        raise UsageError(
            f"{variable_name('kafka_security_protocol')} needs an external broker: set {variable_name('kafka')} to its "
            "address; the local one has neither TLS nor authentication"
        )
    directory = settings.data_dir.expanduser().resolve()
    with ExitStack() as cleanup:
        with _usable(directory):
            guardian = _claim(directory, cleanup)
            starters = _starters(
                settings, directory, guardian, progress=progress, memory_broker_ok=memory_broker_ok, ports=ports or {}
            )
            with compiled_meanwhile(guardian, directory / "compile.log") if progress else nullcontext():
                servers = _start(starters, cleanup)
            stack = _prepare(settings, directory, guardian, starters, servers, cleanup)
        yield stack


def _claim(directory: Path, cleanup: ExitStack) -> Guardian:
    """Lock the directory for the lifetime of this process, and start the guardian."""
    directory.mkdir(parents=True, exist_ok=True)
    _lock(directory, cleanup)
    return cleanup.enter_context(Guardian())


def _prepare(
    settings: Settings,
    directory: Path,
    guardian: Guardian,
    starters: dict[str, Start],
    servers: dict[str, Server],
    cleanup: ExitStack,
) -> Stack:
    """Create topics and tables, and announce the servers until `cleanup` exits."""
    addresses = {name: server.address for name, server in servers.items()}
    filled = settings.model_copy(update={"data_dir": directory}).with_addresses(addresses)
    broker = servers["kafka"].name if "kafka" in servers else EXTERNAL
    if broker == MEMORY_BROKER:  # it creates its topics itself, and keeps no data
        del starters["kafka"]
    else:
        limits = created_limits(filled.sequence_length, filled.top_k, hide_seen=filled.hide_seen)
        create_topics(filled.require_kafka(), filled.partitions, filled.replication, limits=limits)
    migrate(filled.require_postgres_url(), installation=filled.installation)
    announcement = cleanup.enter_context(announced(directory, addresses))
    return Stack(filled, broker, servers, guardian, announcement, starters)


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """Report a data directory that is a file, read-only or full."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be used as the data directory ({error}); set {variable_name('data_dir')} to another"
        ) from error


def _lock(directory: Path, cleanup: ExitStack) -> None:
    try:
        cleanup.enter_context(FileLock(directory / LOCK, timeout=LOCK_TIMEOUT_S))
    except Timeout:
        raise UsageError(
            f"streamrec already runs on {directory}; stop it, or set {variable_name('data_dir')} to another directory"
        ) from None


def _starters(
    settings: Settings,
    directory: Path,
    guardian: Guardian,
    *,
    progress: bool,
    memory_broker_ok: bool,
    ports: Mapping[str, int],
) -> dict[str, Start]:
    """Return the start functions of servers without an address."""

    def start_broker() -> Server:
        try:
            return start_kafka(directory / "kafka", guardian, progress=progress, port=ports.get("kafka", 0))
        except JarsUnavailableError as error:
            if not memory_broker_ok:
                raise
            sys.stderr.write(f"streamrec: {error}; continuing with an in-memory broker, which keeps no data\n")
            return start_memory_broker(directory / "kafka", guardian)

    starters: dict[str, Start] = {
        "kafka": start_broker,
        "redis_url": lambda: start_valkey(directory / "valkey", guardian, port=ports.get("redis_url", 0)),
        "postgres_url": lambda: start_postgres(directory / "postgres", guardian, port=ports.get("postgres_url", 0)),
    }
    return {name: start for name, start in starters.items() if getattr(settings, name) is None}


def _start(starters: Mapping[str, Start], cleanup: ExitStack) -> dict[str, Server]:
    """Start servers concurrently; each one is stopped when `cleanup` exits."""
    with ThreadPoolExecutor() as pool:
        starting = {name: pool.submit(start) for name, start in starters.items()}
    servers: dict[str, Server] = {}
    for name, future in starting.items():
        if future.exception() is None:
            servers[name] = future.result()
            cleanup.callback(_stop, servers, name)
    for future in starting.values():
        future.result()
    return servers


def _stop(servers: dict[str, Server], name: str) -> None:
    """Stop the current server of this name: it may have been restarted meanwhile."""
    servers[name].stop()
