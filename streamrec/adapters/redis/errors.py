"""Translation of Redis errors: those that can be resolved without a code change are transient.

Redis errors start with a code, and redis-py has classes for only some of them. The codes of invalid commands are few
and old; newer codes describe a state of the server, which is temporary: a replica is promoted, disk space is freed, an
operator grants a permission. So an unknown code is transient: a waiting worker logs the reason and loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ExecAbortError,
    InvalidResponse,
    MasterDownError,
    MovedError,
)

from streamrec.errors import StreamrecError, TransientError

OUR_FAULT = frozenset({"ERR", "WRONGTYPE", "EXECABORT", "NOPROTO"})
"""Codes of permanent errors."""

OF_CLUSTERS = frozenset({"MOVED", "ASK", "CROSSSLOT"})
"""Codes that only Redis Cluster uses."""

NO_CLUSTER = (
    "this is a Redis Cluster, which streamrec does not support yet; use a single server, with replicas if needed"
)

_CLASSES: dict[type[redis.RedisError], str] = {
    MovedError: "MOVED",
    AskError: "ASK",
    ClusterCrossSlotError: "CROSSSLOT",
    ExecAbortError: "EXECABORT",
    MasterDownError: "MASTERDOWN",
    redis.ReadOnlyError: "READONLY",
}
"""Errors of which redis-py may only keep the class."""

_PASSING_GENERAL = re.compile(
    r"max number of clients|limit exceeded|limit reached|ACL failure in script|script:.*no permissions", re.IGNORECASE
)
"""Transient generic errors (`ERR`): too many connections, a quota of a managed server, and a missing permission for a
command inside a script."""

_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -?([A-Z]{2,})\b")
"""Before Redis 7 the error of a command inside a script is embedded in a generic one."""

_WORD = re.compile(r"-?([A-Z]{2,})\b")


LEFT = frozenset({"READONLY", "MASTERDOWN", "UNBLOCKED", "REDIRECT"})
"""Codes of a server that is no longer the primary: its address may resolve to another one now."""


@contextmanager
def translated_errors(client: redis.Redis | None = None) -> Iterator[None]:
    """Translate errors of redis-py.

    Parameters
    ----------
    client
        Reconnects after an error of a server that is no longer the primary: redis-py would keep the connection.

    Raises
    ------
    TransientError
        If a retry may succeed.
    StreamrecError
        If retries cannot succeed.
    """
    try:
        yield
    except redis.RedisError as error:
        word = word_of(error)
        if client is not None and word in LEFT:
            client.connection_pool.disconnect(inuse_connections=False)
        if word in OF_CLUSTERS:
            raise StreamrecError(f"Redis: {NO_CLUSTER}") from error
        kind = TransientError if _passes(error) else StreamrecError
        raise kind(f"Redis: {error}") from error


def word_of(error: redis.RedisError) -> str:
    """Return the code of a server's error, empty if it has none.

    Examples
    --------
    >>> word_of(redis.ResponseError("NOREPLICAS Not enough good replicas to write."))
    'NOREPLICAS'
    >>> word_of(redis.ResponseError("Error running script: @user_script:3: -OOM command not allowed"))
    'OOM'
    """
    if found := _IN_SCRIPT.search(str(error)):
        return found[1]
    if word := getattr(error, "status_code", None):
        return str(word)
    for kind, word in _CLASSES.items():
        if isinstance(error, kind):
            return word
    found = _WORD.match(str(error))
    return found[1] if found else ""


def _passes(error: redis.RedisError) -> bool:
    # failed or refused connections, a server that loads its data, a wrong password, garbled replies
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | InvalidResponse):
        return True
    if not isinstance(error, redis.ResponseError):
        return False  # raised by redis-py itself
    word = word_of(error)
    if word in OUR_FAULT:
        return word == "ERR" and _PASSING_GENERAL.search(str(error)) is not None
    # without a code redis-py has a class for it, unless it is a generic error
    return bool(word) or type(error) is not redis.ResponseError
