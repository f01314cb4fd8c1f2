"""Whether Redis and PostgreSQL answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import text

from streamrec.adapters.postgres import engine as postgres
from streamrec.adapters.redis import client as redis
from streamrec.errors import StreamrecError
from streamrec.settings import Settings

STATEMENT_TIMEOUT_MS = 2_000

ANSWER_S = 3.0
"""Who says nothing for so long hangs: no timeout of a client's own ends that on a connection that is open."""


class Servers:
    """Asks servers for a sign of life.

    Parameters
    ----------
    settings
        Say where they are; one without an address is not asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._asks: dict[str, Callable[[], None]] = {}
        self._asked: dict[str, asyncio.Future[None]] = {}
        """Those that have not answered yet."""
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

    async def faults(self) -> dict[str, str]:
        """Return what stands in the place of an answer, by server that gives none.

        All are asked at the same time, one that hangs not again before it has answered.
        """
        for server, ask in self._asks.items():
            if server not in self._asked:
                self._asked[server] = asyncio.ensure_future(asyncio.to_thread(ask))
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=ANSWER_S)
        return {server: fault for server in self._asks if (fault := self._fault(server))}

    def _fault(self, server: str) -> str:
        """Return what a server said instead of an answer, nothing if it answered."""
        if not self._asked[server].done():
            return f"it has said nothing for {ANSWER_S:g} s"
        try:
            self._asked.pop(server).result()
        except StreamrecError as error:
            return str(error).removeprefix(f"{server}: ")
        return ""

    @property
    def names(self) -> list[str]:
        """The servers that are asked."""
        return list(self._asks)
