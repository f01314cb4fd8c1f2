"""Whether Redis and PostgreSQL answer."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import text

from streamrec.adapters.postgres import engine as postgres
from streamrec.adapters.redis import client as redis
from streamrec.errors import StreamrecError
from streamrec.settings import Settings

STATEMENT_TIMEOUT_MS = 2_000


class Servers:
    """Asks servers for a sign of life.

    Parameters
    ----------
    settings
        Say where they are; one without an address is not asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._asks: dict[str, Callable[[], None]] = {}
        if settings.redis_url is not None:
            client = redis.connect(settings.require_redis_url())

            def ask_redis() -> None:
                with redis.translated_errors():
                    client.ping()

            self._asks["Redis"] = ask_redis
        if settings.postgres_url is not None:
            engine = postgres.connect(settings.require_postgres_url(), statement_timeout_ms=STATEMENT_TIMEOUT_MS)

            def ask_postgres() -> None:
                with postgres.translated_errors(), engine.connect() as connection:
                    connection.execute(text("SELECT 1"))

            self._asks["PostgreSQL"] = ask_postgres

    def faults(self) -> dict[str, str]:
        """Return what stands in the place of an answer, by server that gives none."""
        found = {}
        for server, ask in self._asks.items():
            try:
                ask()
            except StreamrecError as error:
                found[server] = str(error).removeprefix(f"{server}: ")
        return found

    @property
    def names(self) -> list[str]:
        """The servers that are asked."""
        return list(self._asks)
