"""Checks of a Redis server's configuration."""

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
    """Result of checking a server.

    Parameters
    ----------
    faults
        Why states are not safe, and what to set; nothing may be written while there are any.
    losses
        Possible data loss.
    warnings
        Warnings for the operator.
    """

    faults: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def fitness(client: redis.Redis) -> RedisFitness:
    """Read a server's configuration, in one call, or two if it has no append-only file.

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
            found.warnings.append(f"this user has no permission for INFO, so nothing can be checked: {_HOW_TO_CHECK}")
            return found
        saves = _saves(client) if not about.get("aof_enabled") else None
    _judge_kind(about, found)
    _judge_eviction(about, found)
    _judge_persistence(about, saves, found)
    return found


def require_fit(client: redis.Redis) -> list[str]:
    """Return warnings about a server on which states are safe.

    Raises
    ------
    UnfitServerError
        If states are not safe; the message says what to set.
    TransientError
        If the server does not answer.
    """
    found = fitness(client)
    if found.faults:
        client.connection_pool.disconnect(
            inuse_connections=False
        )  # the address may resolve to another server next time
        raise UnfitServerError(f"Redis: {'; '.join(found.faults)}")
    return found.losses + found.warnings


_HOW_TO_CHECK = (
    "verify that maxmemory-policy is noeviction and that it is not a replica, or grant it: ACL SETUSER ... +info"
)


def _is_forbidden(error: redis.ResponseError) -> bool:
    return word_of(error) == _FORBIDDEN or isinstance(error, redis.exceptions.NoPermissionError) or _is_unknown(error)


def _is_unknown(error: redis.ResponseError) -> bool:
    return "unknown command" in str(error).lower()  # how managed servers disable commands


def _judge_kind(about: Mapping[str, Any], found: RedisFitness) -> None:
    # Valkey has its own name for the mode, and keeps Redis's only in its compatibility mode
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
            "the server does not report whether it evicts keys; verify that its maxmemory-policy is noeviction"
        )
    elif policy != _SAFE_POLICY and memory != 0:
        limit = "" if memory is None else f" at {memory:,} bytes (maxmemory)"
        found.faults.append(
            f"it evicts keys{limit}, including interest states: maxmemory-policy is {policy}; "
            "set it to noeviction (CONFIG SET maxmemory-policy noeviction, or the parameters of a managed server), "
            "or use another server"
        )
    if evicted := about.get("evicted_keys"):
        found.losses.append(
            f"it has evicted {evicted:,} keys since it started: interest states may be missing; "
            "rebuild them (see the runbook), then run CONFIG RESETSTAT"
        )


def _judge_persistence(about: Mapping[str, Any], saves: bool | None, found: RedisFitness) -> None:
    if about.get("aof_enabled") is None and about.get("rdb_last_save_time") is None:
        found.warnings.append("the server does not report whether it persists its data")
    elif not about.get("aof_enabled") and not (about.get("rdb_saves") if saves is None else saves):
        found.warnings.append(
            "it does not persist data: after a restart all states are rebuilt from Kafka, "
            "within its retention; set appendonly to yes"
        )
    for name, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot")):
        if about.get(name, "ok") != "ok":
            found.warnings.append(f"its last write of the {what} failed; see its log and its disk")


def _saves(client: redis.Redis) -> bool | None:
    """Return whether the server writes snapshots, `None` if not permitted to know."""
    try:
        told: Any = client.config_get("save")
    except redis.ResponseError as error:
        if _is_forbidden(error):
            return None
        raise
    return bool(told.get("save")) if "save" in told else None
