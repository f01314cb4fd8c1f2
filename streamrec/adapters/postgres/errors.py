"""Translation of PostgreSQL errors: those that can be resolved without a code change are transient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from streamrec.errors import StreamrecError, TransientError

PASSING_CLASSES = {
    "08": "the connection failed, or a proxy has none",
    "25": "a transaction was terminated, or the server is read-only",
    "28": "authentication fails until an operator fixes it",
    "3D": "the database is being restored or renamed",
    "40": "a deadlock or a lost race",
    "53": "insufficient resources: disk, memory, connections",
    "55": "an object is locked or not in the required state yet",
    "57": "operator intervention, shutdown, startup, statement timeout",
    "58": "system error outside of the server",
    "F0": "configuration file error",
    "XX": "internal error, fixed by restoring or restarting the server",
}
"""Transient classes of SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

PASSING_STATES = {
    "42501": "a permission is missing until an operator grants it",
}

UNDEFINED_TABLE = "42P01"
READ_ONLY = "25006"

READ_ONLY_ADVICE = (
    "the server is read-only: a standby, or default_transaction_read_only is on; "
    "waiting for the primary to return or the setting to change"
)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of SQLAlchemy and psycopg2.

    Raises
    ------
    TransientError
        If a retry may succeed.
    StreamrecError
        If retries cannot succeed.
    """
    try:
        yield
    except PoolTimeoutError as error:
        raise TransientError(f"PostgreSQL: all connections are in use: {error}") from error
    except DBAPIError as error:
        raise _ours(error) from error


def _ours(error: DBAPIError) -> StreamrecError:
    state = getattr(error.orig, "pgcode", None)
    text = str(error.orig).strip().partition("\n")[0]
    if state == UNDEFINED_TABLE:
        return StreamrecError("PostgreSQL has no tables of streamrec yet: run `streamrec migrate`")
    if state == READ_ONLY:
        return TransientError(f"PostgreSQL: {text}: {READ_ONLY_ADVICE}")
    return (TransientError if _passes(error, state) else StreamrecError)(f"PostgreSQL: {text}")


def _passes(error: DBAPIError, state: str | None) -> bool:
    if state is None:  # raised by the client: the server was not reached, or the connection failed
        return isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
    return state[:2] in PASSING_CLASSES or state in PASSING_STATES
