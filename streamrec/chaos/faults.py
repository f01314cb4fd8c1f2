"""What goes wrong, and when: a schedule that a seed reproduces."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

MEAN_PAUSE_S = 8.0
"""Between two faults: some strike before the one before has healed, and some after."""

ASLEEP_S = 8.0
"""Longer than a worker's session lasts: it wakes up as a zombie."""

FROZEN_S = 6.0
"""Longer than a client of a store waits for an answer, which then comes after all."""

WINDOW_S = 3.0
"""How long a server refuses, a transaction stays open or a supervisor is stopped."""

PLANTED_EVERY = 3
"""Batches until a planted exit happens: under a backlog there are few, and large ones."""


class Kind(StrEnum):
    """The kinds of fault."""

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
        When it strikes, seconds after the first event.
    kind
        What it is.
    worker
        Which worker it strikes, where it strikes one.
    place
        Where a planted exit happens.
    server
        Which server it strikes, where the kind does not say.
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
    """Return the faults of a run, each kind at least once if the time allows, in the order in which they strike."""
    rng = random.Random(seed)  # noqa: S311  # a reproducible schedule, no secret
    faults: list[Fault] = []
    at_s = 1.0
    bag: list[Kind] = []
    while at_s < duration_s:
        bag = bag or rng.sample(list(Kind), len(Kind))
        faults.append(Fault(round(at_s, 2), bag.pop(), rng.choice(workers), rng.choice(places), rng.choice(servers)))
        at_s += rng.uniform(0.5, 1.5) * mean_pause_s
    return faults
