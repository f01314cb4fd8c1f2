"""Connecting to PostgreSQL, its errors in our words, and its tables brought up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from streamrec.errors import StreamrecError, TransientError

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 30_000

_MIGRATION_LOCK = 7_221_061
"""Any number, the same in every process: two migrations at once would trip over each other."""


def connect(url: str) -> Engine:
    """Return an engine; nothing is sent before its first use."""
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg2"),
        pool_size=2,
        max_overflow=0,
        pool_pre_ping=True,
        executemany_mode="values_plus_batch",
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "streamrec",
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
            # a server that vanished is noticed within seconds, also in the middle of a statement
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what a later try may mend into a `TransientError`: a server that is away, a deadlock, a lost race."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise TransientError(f"PostgreSQL: {_first_line(error)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise TransientError(f"PostgreSQL: {_first_line(error)}") from error
        raise StreamrecError(f"PostgreSQL: {_first_line(error)}") from error


def migrate(url: str) -> None:
    """Bring the tables up to date; does nothing when they are.

    Raises
    ------
    TransientError
        If the server does not answer.
    """
    engine = connect(url)
    with translated_errors(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
