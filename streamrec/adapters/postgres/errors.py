"""Errors of PostgreSQL in our words: what passes without a change of our program is transient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from streamrec.errors import StreamrecError, TransientError

PASSING_CLASSES = {
    "08": "the connection broke, or a proxy has none",
    "25": "a transaction was ended, or the server is read-only",
    "28": "the login is refused until an operator mends it",
    "3D": "the database is being restored or renamed",
    "40": "a deadlock or a lost race",
    "53": "no room: disk, memory, connections",
    "55": "something is locked or not in the right state yet",
    "57": "an operator, a shutdown, a start, a statement that took too long",
    "58": "the system around the server fails",
    "F0": "the server's configuration is being mended",
    "XX": "the server's own fault, mended by restoring or restarting it",
}
"""Classes of SQLSTATE whose errors pass (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

PASSING_STATES = {
    "42501": "a right is missing until an operator grants it",
}

UNDEFINED_TABLE = "42P01"
READ_ONLY = "25006"

READ_ONLY_ADVICE = (
    "the server is read-only: a standby, or default_transaction_read_only is on; "
    "waiting for the primary to come back or the setting to change"
)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn errors of SQLAlchemy and psycopg2 into ours.

    Raises
    ------
    TransientError
        If a later try may go through.
    StreamrecError
        If none can.
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
    if state is None:  # it comes from the client: the server was not reached, or the connection broke
        return isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
    return state[:2] in PASSING_CLASSES or state in PASSING_STATES
