"""Connecting to PostgreSQL."""

from __future__ import annotations

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError

from streamrec.adapters.postgres.errors import READ_ONLY, translated_errors
from streamrec.environment import variable_name
from streamrec.errors import SettingsError

__all__ = ["connect", "translated_errors"]

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 30_000

IDLE_TRANSACTION_TIMEOUT_MS = 15_000
"""The server ends a transaction that says nothing for so long: a process that was stopped, or whose host is gone, would
hold its locks on positions, and whoever took its partitions over would wait."""


def connect(url: str, *, installation: str = "", statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> Engine:
    """Return an engine whose tables are those of an installation; nothing is sent before its first use.

    Raises
    ------
    SettingsError
        If this is no address of PostgreSQL.
    """
    options: dict[str, str | int] = {
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT_MS,
        "timezone": "UTC",
    }
    if installation:
        options["search_path"] = installation
    engine = create_engine(
        _parse(url).set(drivername="postgresql+psycopg2"),
        pool_size=2,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "streamrec",
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            # a server that vanished is noticed within seconds, also in the middle of a statement
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )
    event.listen(engine, "handle_error", _leave_read_only)
    return engine


def _leave_read_only(context: ExceptionContext) -> None:
    """Connect anew after a read-only server: the address may lead to the new primary, and the setting have changed."""
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    # an @ in the host is the end of a password that was cut at the first one
    if parsed is None or parsed.get_backend_name() not in {"postgresql", "postgres"} or "@" in (parsed.host or ""):
        # the address itself may hold a password
        raise SettingsError(
            f"{variable_name('postgres_url')}: not an address of PostgreSQL "
            "(example: postgresql://streamrec:secret@localhost:5432/streamrec); "
            "in a password, / ? # @ and % are written as %2F %3F %23 %40 and %25"
        ) from None
    return parsed
