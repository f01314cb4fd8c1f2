"""Errors by their meaning: what passes without a change of our program is transient, whatever class it has."""

from __future__ import annotations

import psycopg2
import pytest
import redis
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    TryAgainError,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from streamrec.adapters.postgres import engine as postgres
from streamrec.adapters.redis import client as redis_adapter
from streamrec.errors import StreamrecError, TransientError

PASSING = [
    "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "LOADING Redis is loading the dataset in memory",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOPERM User streamrec has no permissions to run the 'set' command",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "NOSCRIPT No matching script.",
    "REDIRECT 10.0.0.7:6379",
    "FAILOVER a state that nobody has heard of yet",
    "ERR max number of clients reached",
    "ERR max requests limit exceeded. Limit: 500000, Usage: 500000.",
    "ERR ACL failure in script: User streamrec has no permissions to run the 'set' command",
    # how servers before Redis 7 tell of a command inside a script
    "ERR Error running script (call to f_1): @user_script:3: @user_script: 3: -OOM command not allowed when used",
    "ERR Error running script (call to f_1): @user_script:7: -READONLY You can't write against a read only replica.",
]
OUR_FAULT = [
    "ERR unknown command 'EVALSHA'",
    "ERR wrong number of arguments for 'set' command",
    "ERR DB index is out of range",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR Error running script (call to f_c0ffee): @user_script:3: WRONGTYPE Operation against a key",
    "EXECABORT Transaction discarded because of previous errors.",
]
CLUSTER = [
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "CROSSSLOT Keys in request don't hash to the same slot",
]


def as_redis_says(reply):
    """Raise what redis-py makes of a server's reply."""
    raise redis.connection.DefaultParser.parse_error(reply)


def translated(raise_error, adapter=redis_adapter):
    with pytest.raises(StreamrecError) as caught, adapter.translated_errors():
        raise_error()
    return caught.value


@pytest.mark.parametrize("reply", PASSING)
def test_what_passes_at_redis_is_transient(reply):
    error = translated(lambda: as_redis_says(reply))
    assert isinstance(error, TransientError)
    assert str(error).startswith("Redis: ")


@pytest.mark.parametrize("reply", OUR_FAULT)
def test_what_redis_never_takes_is_not(reply):
    assert not isinstance(translated(lambda: as_redis_says(reply)), TransientError)


@pytest.mark.parametrize("reply", CLUSTER)
def test_a_redis_cluster_is_refused_in_one_line(reply):
    error = translated(lambda: as_redis_says(reply))
    assert not isinstance(error, TransientError)
    assert str(error).startswith("Redis: this is a Redis Cluster, which streamrec does not support yet")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (redis.ConnectionError("Connection refused"), True),
        (redis.TimeoutError("Timeout reading from socket"), True),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), True),
        (redis.InvalidResponse("Protocol Error: b'H'"), True),
        (redis.ReadOnlyError("You can't write against a read only replica."), True),
        (redis.OutOfMemoryError("command not allowed"), True),
        (NoPermissionError("this user has no permissions"), True),
        (NoScriptError("No matching script."), True),
        (MasterDownError("Link with MASTER is down"), True),
        (ClusterDownError("The cluster is down"), True),
        (TryAgainError("Multiple keys request during rehashing of slot"), True),
        (MovedError("3999 127.0.0.1:6381"), False),
        (redis.DataError("Invalid input of type"), False),
        (redis.ResponseError("value is not an integer or out of range"), False),
    ],
)
def test_redis_py_may_keep_the_class_of_an_error_alone(error, passes):
    def fail():
        raise error

    assert isinstance(translated(fail), TransientError) == passes


@pytest.mark.parametrize("reply", [*PASSING[:-3], *OUR_FAULT[:4]])
def test_a_real_server_says_the_same_from_inside_a_script(reply, redis_client):
    """A script's own error travels as a command's does."""
    error = translated(lambda: redis_client.eval("return redis.error_reply(ARGV[1])", 0, reply))
    assert isinstance(error, TransientError) == (reply in PASSING)


PASSING_STATES = {
    "08006": "connection failure",
    "08P01": "query_wait_timeout of a pooler",
    "25006": "read-only after a failover",
    "25P03": "idle in transaction",
    "28000": "a login that is being changed",
    "28P01": "a password that is being changed",
    "3D000": "a database that is being restored",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "42501": "a right that is missing",
    "53000": "insufficient resources",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55006": "object in use",
    "55P03": "lock not available",
    "57014": "a statement that took too long",
    "57P01": "admin shutdown",
    "57P02": "crash shutdown",
    "57P03": "cannot connect now",
    "58000": "system error",
    "58030": "I/O error",
    "F0000": "configuration file",
    "XX000": "internal error",
}
OUR_STATES = {
    "22P02": "text that is not a number",
    "23505": "a duplicate key",
    "42601": "syntax",
    "42703": "no such column",
}


class FromServer(psycopg2.Error):
    """psycopg2's error with a SQLSTATE, which only the server can set in a real one."""

    pgcode = ""


def raising(state, kind):
    def fail():
        error = type("FromServer", (FromServer,), {"pgcode": state})("said the server\nLINE 1: ...")
        raise kind("SELECT 1", {}, error)

    return fail


@pytest.mark.parametrize("kind", [DBAPIError, InternalError, OperationalError, ProgrammingError])
@pytest.mark.parametrize("state", [*PASSING_STATES, *OUR_STATES])
def test_postgresql_is_judged_by_its_sqlstate_and_not_by_the_class_of_the_error(state, kind):
    error = translated(raising(state, kind), postgres)
    assert isinstance(error, TransientError) == (state in PASSING_STATES)
    assert str(error).startswith("PostgreSQL: said the server")
    assert "\n" not in str(error)


@pytest.mark.parametrize("state", [*PASSING_STATES, *OUR_STATES])
def test_a_real_postgresql_says_the_same(state, postgres_url):
    engine = postgres.connect(postgres_url)
    said = f"DO $$ BEGIN RAISE EXCEPTION 'said the server' USING ERRCODE = '{state}'; END $$"

    def ask():
        with engine.begin() as connection:
            connection.execute(text(said))

    assert isinstance(translated(ask, postgres), TransientError) == (state in PASSING_STATES)


def test_a_postgresql_that_is_not_reached_and_one_whose_connections_are_in_use_are_transient():
    def lost():
        raise OperationalError("SELECT 1", {}, psycopg2.OperationalError("server closed the connection unexpectedly"))

    def exhausted():
        raise PoolTimeoutError("QueuePool limit of size 2 overflow 0 reached")

    assert isinstance(translated(lost, postgres), TransientError)
    assert isinstance(translated(exhausted, postgres), TransientError)


def test_a_read_only_postgresql_is_named():
    error = translated(raising("25006", InternalError), postgres)
    assert "read-only: a standby, or default_transaction_read_only is on" in str(error)


def test_missing_tables_are_named_with_the_command_that_makes_them():
    error = translated(raising("42P01", ProgrammingError), postgres)
    assert not isinstance(error, TransientError)
    assert "streamrec migrate" in str(error)
