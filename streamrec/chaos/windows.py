"""Windows in which a server answers but refuses writes, closed reliably despite other faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

import psycopg2
import redis
from psycopg2 import sql

from streamrec.chaos.faults import WINDOW_S, Kind
from streamrec.chaos.patience import PATIENCE_S
from streamrec.errors import StreamrecError
from streamrec.settings import Settings

AMPLE_BYTES = 4_000_000_000
"""`maxmemory` of a Redis that could evict but never has to, since evicted keys would be lost."""

NOBODY = ("127.0.0.1", "1")
"""Address without a server to replicate from."""

TIMEOUT_S = 2.0
LOOK_S = 0.1

_ERRORS = (redis.RedisError, psycopg2.Error)


class Windows:
    """Opens windows in which a server refuses writes, each in a separate thread.

    Parameters
    ----------
    settings
        Settings with the servers' addresses.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis_url = settings.require_redis_url()
        self._postgres_url = settings.require_postgres_url()
        self._threads: list[threading.Thread] = []
        self._failures: list[StreamrecError] = []

    def open(self, kind: Kind, *, variant: bool = False) -> None:
        """Make a server refuse writes for `WINDOW_S`; some have two ways."""
        begin, end = {
            Kind.NO_REPLICAS: (self._no_replicas, self._replicas_again),
            Kind.EVICTING_REDIS: (self._evicting, self._no_longer_evicting),
            Kind.READ_ONLY_REDIS: (self._master_down if variant else self._replica, self._primary_again),
            Kind.READ_ONLY_POSTGRES: (self._read_only, self._writable_again),
        }[kind]

        def last() -> None:
            try:
                self._insist(begin)
                time.sleep(WINDOW_S)
            finally:
                self._insist(end)

        self._threads.append(threading.Thread(target=last, name=f"window-{kind}"))
        self._threads[-1].start()

    @property
    def are_open(self) -> bool:
        """Whether a server may still refuse writes."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        """Wait until every window is closed.

        Raises
        ------
        StreamrecError
            If one could not be closed.
        """
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _insist(self, act: Callable[[], None]) -> None:
        """Retry while the server is unavailable because of another fault."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            with suppress(*_ERRORS):
                act()
                return
            time.sleep(LOOK_S)
        self._failures.append(StreamrecError(f"{act.__name__}: the server did not accept it in {PATIENCE_S:.0f} s"))

    def _tell_redis(self, *commands: tuple[str, ...]) -> None:
        with redis.Redis.from_url(self._redis_url, socket_timeout=TIMEOUT_S) as client:
            for command in commands:
                client.execute_command(*command)

    def _no_replicas(self) -> None:
        self._tell_redis(("CONFIG", "SET", "min-replicas-to-write", "1"))

    def _replicas_again(self) -> None:
        self._tell_redis(("CONFIG", "SET", "min-replicas-to-write", "0"))

    def _evicting(self) -> None:
        self._tell_redis(("CONFIG", "SET", "maxmemory", str(AMPLE_BYTES), "maxmemory-policy", "allkeys-lru"))

    def _no_longer_evicting(self) -> None:
        self._tell_redis(("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction"))

    def _replica(self) -> None:
        self._tell_redis(("REPLICAOF", *NOBODY))

    def _master_down(self) -> None:
        self._tell_redis(("CONFIG", "SET", "replica-serve-stale-data", "no"), ("REPLICAOF", *NOBODY))

    def _primary_again(self) -> None:
        self._tell_redis(("REPLICAOF", "NO", "ONE"), ("CONFIG", "SET", "replica-serve-stale-data", "yes"))

    def _read_only(self) -> None:
        self._tell_postgres("ALTER DATABASE {} SET default_transaction_read_only = on")

    def _writable_again(self) -> None:
        self._tell_postgres("ALTER DATABASE {} RESET default_transaction_read_only")

    def _tell_postgres(self, statement: str) -> None:
        """Alter the database, and end all sessions on it, since only new ones use the setting."""
        options = "-c default_transaction_read_only=off"
        with closing(psycopg2.connect(self._postgres_url, connect_timeout=2, options=options)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                name = sql.Identifier(connection.info.dbname)
                cursor.execute(sql.SQL(statement).format(name))
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
