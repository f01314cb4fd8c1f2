"""Health checks of Redis and PostgreSQL, including their configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import text

from streamrec.adapters.postgres import engine as postgres
from streamrec.adapters.postgres.errors import READ_ONLY_ADVICE
from streamrec.adapters.redis import client as redis
from streamrec.adapters.redis.server import fitness
from streamrec.errors import StreamrecError
from streamrec.settings import Settings

STATEMENT_TIMEOUT_MS = 2_000

ANSWER_S = 3.0
"""A server without an answer for this long hangs: clients have no timeout on an open connection."""


class Condition(NamedTuple):
    """Condition of an available server."""

    unfit: Sequence[str] = ()
    """Why it loses or has lost data, or refuses writes."""
    warnings: Sequence[str] = ()
    """Warnings."""


_GOOD = Condition()


class Servers:
    """Checks whether servers answer, and their configuration.

    Parameters
    ----------
    settings
        Settings with their addresses; servers without one are skipped.
    """

    def __init__(self, settings: Settings) -> None:
        self._asks: dict[str, Callable[[], Condition | None]] = {}
        self._asked: dict[str, asyncio.Future[Condition | None]] = {}
        """Servers that have not answered yet."""
        self.conditions: dict[str, Condition] = {}
        """Last condition of each server; missing for one that has not answered since."""
        if settings.redis_url is not None:
            client = redis.connect(settings.require_redis_url())

            def ask_redis() -> Condition:
                found = fitness(client)
                return Condition(found.faults + found.losses, found.warnings)

            self._asks["Redis"] = ask_redis
        if settings.postgres_url is not None:
            engine = postgres.connect(settings.require_postgres_url(), statement_timeout_ms=STATEMENT_TIMEOUT_MS)

            def ask_postgres() -> Condition:
                with postgres.translated_errors(), engine.connect() as connection:
                    is_read_only = connection.execute(text("SHOW transaction_read_only")).scalar() == "on"
                if is_read_only:
                    engine.dispose()  # the address may resolve to another server now, or the setting have changed
                return Condition([READ_ONLY_ADVICE] if is_read_only else [])

            self._asks["PostgreSQL"] = ask_postgres

    async def faults(self) -> dict[str, str]:
        """Return the faults of servers that do not answer, by server.

        All are asked concurrently; a hanging one is not asked again before it has answered.
        """
        for server, ask in self._asks.items():
            if server not in self._asked:
                self._asked[server] = asyncio.ensure_future(asyncio.to_thread(ask))
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=ANSWER_S)
        return {server: fault for server in self._asks if (fault := self._fault(server))}

    def _fault(self, server: str) -> str:
        """Return the fault of a server, empty if it answered."""
        if not self._asked[server].done():
            self.conditions.pop(server, None)
            return f"no answer for {ANSWER_S:g} s"
        self.conditions.pop(server, None)
        try:
            self.conditions[server] = self._asked.pop(server).result() or _GOOD
        except StreamrecError as error:
            return str(error).removeprefix(f"{server}: ")
        return ""

    @property
    def names(self) -> list[str]:
        """The checked servers."""
        return list(self._asks)
