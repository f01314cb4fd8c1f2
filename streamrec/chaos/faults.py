"""Schedules of faults, reproducible by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

MEAN_PAUSE_S = 8.0
"""Mean time between two faults: some occur before recovery from the previous one, some after."""

ASLEEP_S = 8.0
"""Longer than a worker's session timeout: it resumes as a zombie."""

FROZEN_S = 6.0
"""Longer than a store client's timeout; the answer arrives afterwards."""

WINDOW_S = 3.0
"""How long a server refuses writes, a transaction stays open or a supervisor is suspended."""

PLANTED_EVERY = 3
"""Batches until an injected crash: with a backlog there are few large ones."""


class Kind(StrEnum):
    """Kinds of faults."""

    KILL_WORKER = "kill-worker"
    PLANTED_EXIT = "planted-exit"
    ZOMBIE = "zombie"
    ADD_WORKER = "add-worker"
    REMOVE_WORKER = "remove-worker"
    KILL_BROKER = "kill-broker"
    KILL_REDIS = "kill-redis"
    KILL_POSTGRES = "kill-postgres"
    FREEZE_SERVER = "freeze-server"
    EVICTING_REDIS = "evicting-redis"
    NO_REPLICAS = "no-replicas"
    READ_ONLY_REDIS = "read-only-redis"
    READ_ONLY_POSTGRES = "read-only-postgres"
    TRANSACTION = "transaction"
    CLOCK_JUMP = "clock-jump"
    FULL_DISK = "full-disk"
    STOPPED_SUPERVISOR = "stopped-supervisor"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Parameters
    ----------
    at_s
        Time of the fault, seconds after the first event.
    kind
        Kind of the fault.
    worker
        The affected worker, if any.
    place
        The point of an injected crash.
    server
        The affected server, if the kind does not determine it.
    """

    at_s: float
    kind: Kind
    worker: str = ""
    place: str = ""
    server: str = ""


def schedule(
    seed: int,
    *,
    workers: tuple[str, ...],
    places: tuple[str, ...],
    servers: tuple[str, ...],
    duration_s: float,
    mean_pause_s: float,
) -> list[Fault]:
    """Return the faults of a run in order, each kind at least once if time permits."""
    rng = random.Random(seed)  # noqa: S311  # a reproducible schedule, no secret
    faults: list[Fault] = []
    at_s = 1.0
    bag: list[Kind] = []
    while at_s < duration_s:
        bag = bag or rng.sample(list(Kind), len(Kind))
        faults.append(Fault(round(at_s, 2), bag.pop(), rng.choice(workers), rng.choice(places), rng.choice(servers)))
        at_s += rng.uniform(0.5, 1.5) * mean_pause_s
    return faults
