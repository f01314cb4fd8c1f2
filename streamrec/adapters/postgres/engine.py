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
"""Idle-in-transaction timeout: a stopped process, or one whose host is gone, would keep its locks on positions and
block the worker that took over its partitions."""


def connect(url: str, *, installation: str = "", statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> Engine:
    """Return an engine for an installation's tables; it connects on first use.

    Raises
    ------
    SettingsError
        If the URL is not a valid PostgreSQL address.
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
            # a vanished server is noticed within seconds, also during a statement
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )
    event.listen(engine, "handle_error", _leave_read_only)
    return engine


def _leave_read_only(context: ExceptionContext) -> None:
    """Reconnect after a read-only error: the address may resolve to the new primary, or the setting have changed."""
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    # an @ in the host is the rest of a password with an unescaped @
    if parsed is None or parsed.get_backend_name() not in {"postgresql", "postgres"} or "@" in (parsed.host or ""):
        # the address may contain a password
        raise SettingsError(
            f"{variable_name('postgres_url')}: not an address of PostgreSQL "
            "(example: postgresql://streamrec:secret@localhost:5432/streamrec); "
            "in a password, / ? # @ and % are written as %2F %3F %23 %40 and %25"
        ) from None
    return parsed
