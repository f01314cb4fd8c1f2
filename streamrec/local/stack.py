"""The servers that streamrec needs, started where no address of another one is set."""

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
"""Where clients look for each server, by the setting that names its address."""

LOCK_TIMEOUT_S = 0.5
"""Whoever asks whether a stack runs holds the lock for an instant."""

Start = Callable[[], Server]


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
    announcement
        What other terminals read of it.
    """

    settings: Settings
    broker: str
    servers: dict[str, Server]
    guardian: Guardian = field(repr=False)
    announcement: Announcement = field(repr=False)
    _starters: Mapping[str, Start] = field(repr=False)

    @property
    def durable(self) -> list[str]:
        """The servers that continue where they stopped when they are started again."""
        return [name for name in self.servers if name in self._starters]

    def start(self, name: str) -> None:
        """Start a server that ended again, on what it left and at the address that its clients know.

        Raises
        ------
        StreamrecError
            If it does not start, or another program has taken its port meanwhile.
        """
        before = self.servers[name]
        if not is_free(before.port):
            raise StreamrecError(f"another program has taken port {before.port} of {before.name}")
        server = self._starters[name]()
        if server.address != before.address:  # taken in the instant after the question
            server.stop()
            raise StreamrecError(f"another program has taken port {before.port} of {before.name}")
        self.servers[name] = server


@contextmanager
def local_stack(
    settings: Settings, *, progress: bool, memory_broker_ok: bool = False, ports: Mapping[str, int] | None = None
) -> Iterator[Stack]:
    """Start what has no address yet, with topics and tables, and stop it again in the end.

    Parameters
    ----------
    settings
        Where `kafka`, `redis_url` or `postgres_url` is set, nothing is started for it.
    progress
        Whether a person waits: downloads show a progress bar on standard error, and what workers would compile is
        compiled meanwhile.
    memory_broker_ok
        Whether an in-memory broker will do where Apache Kafka cannot be fetched: it forgets everything.
    ports
        The port that each server prefers at its first start on the data directory, by the setting that names its
        address; any that is free where none is given.

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
    """Make the directory ours for as long as this process runs, and start what ends with it."""
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
    """Make topics and tables, and announce the servers until `cleanup` is left."""
    addresses = {name: server.address for name, server in servers.items()}
    filled = settings.model_copy(update={"data_dir": directory}).with_addresses(addresses)
    broker = servers["kafka"].name if "kafka" in servers else EXTERNAL
    if broker == MEMORY_BROKER:  # it made its topics itself, and forgets everything when it ends
        del starters["kafka"]
    else:
        limits = created_limits(filled.sequence_length, filled.top_k, hide_seen=filled.hide_seen)
        create_topics(filled.require_kafka(), filled.partitions, filled.replication, limits=limits)
    migrate(filled.require_postgres_url(), installation=filled.installation)
    announcement = cleanup.enter_context(announced(directory, addresses))
    return Stack(filled, broker, servers, guardian, announcement, starters)


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """Say what is wrong with a data directory that is a file, read-only or full."""
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
    """Return what starts each server that has no address yet."""

    def start_broker() -> Server:
        try:
            return start_kafka(directory / "kafka", guardian, progress=progress, port=ports.get("kafka", 0))
        except JarsUnavailableError as error:
            if not memory_broker_ok:
                raise
            sys.stderr.write(f"streamrec: {error}; continuing with an in-memory broker, which forgets everything\n")
            return start_memory_broker(directory / "kafka", guardian)

    starters: dict[str, Start] = {
        "kafka": start_broker,
        "redis_url": lambda: start_valkey(directory / "valkey", guardian, port=ports.get("redis_url", 0)),
        "postgres_url": lambda: start_postgres(directory / "postgres", guardian, port=ports.get("postgres_url", 0)),
    }
    return {name: start for name, start in starters.items() if getattr(settings, name) is None}


def _start(starters: Mapping[str, Start], cleanup: ExitStack) -> dict[str, Server]:
    """Start servers at the same time; each one is stopped when `cleanup` is left."""
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
    """Stop the server that has this name when the time comes: it may have been started again meanwhile."""
    servers[name].stop()
