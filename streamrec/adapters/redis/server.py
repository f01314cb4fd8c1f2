"""What a Redis server is set up to do with states, read from the server instead of supposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from streamrec.adapters.redis.errors import NO_CLUSTER, translated_errors, word_of
from streamrec.errors import UnfitServerError

_SAFE_POLICY = "noeviction"
_FORBIDDEN = "NOPERM"


@dataclass(frozen=True, slots=True)
class RedisFitness:
    """Whether states are safe on a server.

    Parameters
    ----------
    faults
        Why they are not, and what to set; nothing is to be written while there is one.
    losses
        What may have been lost already.
    warnings
        What an operator should know.
    """

    faults: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def fitness(client: redis.Redis) -> RedisFitness:
    """Ask a server how it is set up; one call, and a second one where it keeps no append-only file.

    Raises
    ------
    TransientError
        If the server does not answer.
    """
    found = RedisFitness()
    with translated_errors(client):
        try:
            about: Any = client.info()
        except redis.ResponseError as error:
            if not _is_forbidden(error):
                raise
            found.warnings.append(f"INFO is not allowed to this user, so nothing can be checked: {_HOW_TO_CHECK}")
            return found
        saves = _saves(client) if not about.get("aof_enabled") else None
    _judge_kind(about, found)
    _judge_eviction(about, found)
    _judge_persistence(about, saves, found)
    return found


def require_fit(client: redis.Redis) -> list[str]:
    """Return what an operator should know of a server that states are safe on.

    Raises
    ------
    UnfitServerError
        If they are not; the message says what to set.
    TransientError
        If the server does not answer.
    """
    found = fitness(client)
    if found.faults:
        client.connection_pool.disconnect(
            inuse_connections=False
        )  # the address may lead to another server by the next time
        raise UnfitServerError(f"Redis: {'; '.join(found.faults)}")
    return found.losses + found.warnings


_HOW_TO_CHECK = (
    "see for yourself that maxmemory-policy is noeviction and that it is no replica, or grant it: ACL SETUSER ... +info"
)


def _is_forbidden(error: redis.ResponseError) -> bool:
    return word_of(error) == _FORBIDDEN or isinstance(error, redis.exceptions.NoPermissionError) or _is_unknown(error)


def _is_unknown(error: redis.ResponseError) -> bool:
    return "unknown command" in str(error).lower()  # how managed servers take a command away


def _judge_kind(about: Mapping[str, Any], found: RedisFitness) -> None:
    # Valkey has its own name for the mode, and keeps Redis's one in its compatibility mode alone
    mode = about.get("redis_mode") or about.get("server_mode")
    if mode == "cluster" or about.get("cluster_enabled") == 1:
        found.faults.append(NO_CLUSTER)
    elif mode == "sentinel":
        found.faults.append("this is a Sentinel, not a server; use the address of the primary")
    if about.get("role") in {"slave", "replica"}:
        primary = f"{about.get('master_host', '?')}:{about.get('master_port', '?')}"
        found.faults.append(
            f"this is a replica of {primary}; use the address of the primary, or promote this one (REPLICAOF NO ONE)"
        )


def _judge_eviction(about: Mapping[str, Any], found: RedisFitness) -> None:
    policy, memory = about.get("maxmemory_policy"), about.get("maxmemory")
    if policy is None:
        found.warnings.append(
            "the server does not say whether it evicts keys; see that its maxmemory-policy is noeviction"
        )
    elif policy != _SAFE_POLICY and memory != 0:
        limit = "" if memory is None else f" at {memory:,} bytes (maxmemory)"
        found.faults.append(
            f"it evicts keys{limit}, and with them interest states: maxmemory-policy is {policy}; "
            "set it to noeviction (CONFIG SET maxmemory-policy noeviction, or the parameters of a managed server), "
            "or use another server"
        )
    if evicted := about.get("evicted_keys"):
        found.losses.append(
            f"it has evicted {evicted:,} keys since it started: interest states may be missing; "
            "rebuild them as the runbook says, then CONFIG RESETSTAT"
        )


def _judge_persistence(about: Mapping[str, Any], saves: bool | None, found: RedisFitness) -> None:
    if about.get("aof_enabled") is None and about.get("rdb_last_save_time") is None:
        found.warnings.append("the server does not say whether it keeps its data on disk")
    elif not about.get("aof_enabled") and not (about.get("rdb_saves") if saves is None else saves):
        found.warnings.append(
            "it keeps nothing on disk: after a restart all states are read again from Kafka, "
            "as far as its retention reaches; set appendonly to yes"
        )
    for name, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot")):
        if about.get(name, "ok") != "ok":
            found.warnings.append(f"its last write of the {what} failed; see its log and its disk")


def _saves(client: redis.Redis) -> bool | None:
    """Return whether the server writes snapshots, `None` if it does not tell this user."""
    try:
        told: Any = client.config_get("save")
    except redis.ResponseError as error:
        if _is_forbidden(error):
            return None
        raise
    return bool(told.get("save")) if "save" in told else None
