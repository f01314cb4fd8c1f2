"""Implementation of each kind of fault."""

from __future__ import annotations

import random
import time
from pathlib import Path

from streamrec.chaos.cast import KAFKA, LOOK_S, POSTGRES, REDIS, Cast
from streamrec.chaos.faults import Fault, Kind
from streamrec.chaos.load import Acknowledged
from streamrec.chaos.transactions import Transactions
from streamrec.chaos.windows import Windows

LOST_TAIL_BYTES = 4_096
"""Bytes that a killed Redis loses from its append-only file, as if the machine had crashed."""

_STATES = ("interests", "recall")
"""Workers that store their effects in Redis."""

_SAVES = "trainer"
"""The worker that writes checkpoints."""


class Strikes:
    """Injects faults into the processes of a run.

    Parameters
    ----------
    cast
        All processes.
    acknowledged
        Records committed transactions.
    """

    def __init__(self, cast: Cast, acknowledged: Acknowledged) -> None:
        settings = cast.stack.settings
        self._cast = cast
        self._windows = Windows(settings)
        self._transactions = Transactions(settings.require_kafka(), acknowledged)

    def wait(self) -> None:
        """Wait until all servers accept writes and no transaction is open; dead workers are restarted meanwhile."""
        while self._windows.are_open or self._transactions.are_open:
            self._cast.replace_dead()
            time.sleep(LOOK_S)
        self._windows.wait()
        self._transactions.wait()

    def inflict(self, fault: Fault, rng: random.Random) -> None:
        """Inject a fault."""
        match fault.kind:
            case Kind.EVICTING_REDIS:
                self._evict(rng)
            case Kind.NO_REPLICAS | Kind.READ_ONLY_POSTGRES:
                self._windows.open(fault.kind)
            case Kind.READ_ONLY_REDIS:
                self._windows.open(fault.kind, variant=rng.random() < 0.5)
            case Kind.TRANSACTION:
                self._transactions.begin(rng.randrange(1_000_000))
            case Kind.KILL_BROKER | Kind.KILL_REDIS | Kind.KILL_POSTGRES | Kind.FREEZE_SERVER:
                self._strike_server(fault)
            case _:
                self._strike_worker(fault, rng)

    def _strike_worker(self, fault: Fault, rng: random.Random) -> None:
        cast = self._cast
        match fault.kind:
            case Kind.KILL_WORKER:
                cast.kill(fault.worker, rng)
            case Kind.PLANTED_EXIT:
                cast.plant(fault.worker, fault.place, rng)
            case Kind.ZOMBIE:
                cast.sleep(fault.worker, rng)
                cast.start(fault.worker)
            case Kind.ADD_WORKER:
                cast.add(fault.worker)
            case Kind.REMOVE_WORKER:
                cast.remove(fault.worker, rng)
            case Kind.CLOCK_JUMP:
                cast.plant(fault.worker, "clock-jump", rng)
            case Kind.FULL_DISK if cast.has(_SAVES):
                cast.plant(_SAVES, "full-disk", rng)
            case Kind.STOPPED_SUPERVISOR:
                cast.start_supervised(fault.worker)

    def _strike_server(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL_BROKER:
                self._cast.restart(KAFKA)
            case Kind.KILL_REDIS:
                self._cast.restart(REDIS, damage=_lose_the_last_second)
            case Kind.KILL_POSTGRES:
                self._cast.restart(POSTGRES)
            case Kind.FREEZE_SERVER:
                self._cast.freeze(fault.server)

    def _evict(self, rng: random.Random) -> None:
        """Allow Redis to evict, which it has no need to, and start a worker that must refuse it."""
        self._windows.open(Kind.EVICTING_REDIS)
        there = [name for name in _STATES if self._cast.has(name)]
        if there:
            self._cast.kill(rng.choice(there), rng)


def _lose_the_last_second(directory: Path) -> None:
    for file in (directory / "valkey" / "appendonlydir").glob("*.incr.aof"):
        with file.open("r+b") as log:
            log.truncate(max(0, file.stat().st_size - LOST_TAIL_BYTES))
