"""Whether Redis and PostgreSQL answer, and whether they are set up to keep what is written."""

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
"""Who says nothing for so long hangs: no timeout of a client's own ends that on a connection that is open."""


class Condition(NamedTuple):
    """How a server that answers is set up."""

    unfit: Sequence[str] = ()
    """Why it loses what is written, has lost some, or takes nothing."""
    warnings: Sequence[str] = ()
    """What an operator should know."""


_GOOD = Condition()


class Servers:
    """Asks servers for a sign of life, and how they are set up.

    Parameters
    ----------
    settings
        Say where they are; one without an address is not asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._asks: dict[str, Callable[[], Condition | None]] = {}
        self._asked: dict[str, asyncio.Future[Condition | None]] = {}
        """Those that have not answered yet."""
        self.conditions: dict[str, Condition] = {}
        """What each server said when it answered last; nothing of one that has not answered since."""
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
                    engine.dispose()  # the address may lead to another server meanwhile, and the setting be another
                return Condition([READ_ONLY_ADVICE] if is_read_only else [])

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
            self.conditions.pop(server, None)
            return f"it has said nothing for {ANSWER_S:g} s"
        self.conditions.pop(server, None)
        try:
            self.conditions[server] = self._asked.pop(server).result() or _GOOD
        except StreamrecError as error:
            return str(error).removeprefix(f"{server}: ")
        return ""

    @property
    def names(self) -> list[str]:
        """The servers that are asked."""
        return list(self._asks)
