"""Errors of Redis in our words: what passes without a change of our program is transient.

Redis begins an error with a word that says its meaning, and redis-py has classes for some of them only. The words of a
bad command are few and old; new words tell of a state of the server, and those pass: a replica is promoted, a disk is
cleared, an operator grants a right. So an unknown word is transient: a worker that waits says why and loses nothing.
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
"""Words of errors that the same call always meets."""

OF_CLUSTERS = frozenset({"MOVED", "ASK", "CROSSSLOT"})
"""Words that only the members of a Redis Cluster say."""

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
"""Of these redis-py may keep the class alone."""

_PASSING_GENERAL = re.compile(
    r"max number of clients|limit exceeded|limit reached|ACL failure in script|script:.*no permissions", re.IGNORECASE
)
"""General errors (`ERR`) that pass: too many connections, a quota of a managed server, and a right that is missing to a
command inside a script, which servers report this way."""

_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -?([A-Z]{2,})\b")
"""Before Redis 7 the error of a command inside a script is told in the middle of a general one."""

_WORD = re.compile(r"-?([A-Z]{2,})\b")


LEFT = frozenset({"READONLY", "MASTERDOWN", "UNBLOCKED", "REDIRECT"})
"""Words of a server that is not the primary any more: its address may lead to another one by now."""


@contextmanager
def translated_errors(client: redis.Redis | None = None) -> Iterator[None]:
    """Turn errors of redis-py into ours.

    Parameters
    ----------
    client
        Connects anew after the error of a server that is not the primary any more: redis-py would stay with it.

    Raises
    ------
    TransientError
        If a later try may go through.
    StreamrecError
        If none can.
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
    """Return the word that a server's error begins with, empty if it has none.

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
    # a connection that broke or was refused, a server that loads its data, a wrong password; garbled replies
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | InvalidResponse):
        return True
    if not isinstance(error, redis.ResponseError):
        return False  # redis-py itself refuses the call
    word = word_of(error)
    if word in OUR_FAULT:
        return word == "ERR" and _PASSING_GENERAL.search(str(error)) is not None
    # without a word redis-py has a class for it, unless it is a general error
    return bool(word) or type(error) is not redis.ResponseError
