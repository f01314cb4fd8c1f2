"""Code injected into a worker: crashes at chosen points, environment faults, and bugs.

The oracle must find no differences with the first two, and detect the third. The worker's code is unaware of this; see
:mod:`streamrec.chaos.worker` for how it is run.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.kafka.publisher import KafkaDelivery
from streamrec.adapters.postgres.store import PostgresTransaction
from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore
from streamrec.domain.event import Event
from streamrec.domain.interest import FoldRules, InterestState, Outcome
from streamrec.model.training import checkpoint
from streamrec.service.ports import InterestSnapshot

JUMP_S = 3_600
JUMP_AFTER_S, JUMP_BACK_AFTER_S = 6.0, 12.0
"""Seconds after the start of the process, which itself takes a few."""

FULL_DISKS = 2
"""Number of checkpoints that fail for lack of disk space."""

Method = Callable[..., Any]


def _ending(before: bool, every: int, method: Method) -> Method:
    """Return a method that ends the process before or after its work, on every n-th call."""
    calls = 0

    def planted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # whatever the method takes
        nonlocal calls
        calls += 1
        if before and calls % every == 0:
            os._exit(137)
        result = method(*args, **kwargs)
        if calls % every == 0:
            os._exit(137)
        return result

    return planted


def _plant(owner: type | ModuleType, name: str, *, before: bool, every: int) -> None:
    setattr(owner, name, _ending(before, every, getattr(owner, name)))


def before_effect(every: int) -> None:
    """Crash before anything of a batch is published."""
    _plant(KafkaPublisher, "start", before=True, every=every)
    _plant(PostgresTransaction, "write", before=True, every=every)


def between_stores(every: int) -> None:
    """Crash when derived records are acknowledged but the store's position has not moved."""
    _plant(KafkaDelivery, "wait", before=False, every=every)
    _plant(PostgresTransaction, "write", before=False, every=every)


def after_effect(every: int) -> None:
    """Crash when the store, or the checkpoint, is written but Kafka's committed offset is not."""
    _plant(RedisInterestStore, "compare_and_set", before=False, every=every)
    _plant(RedisTopKStore, "advance", before=False, every=every)
    _plant(checkpoint, "write", before=False, every=1)  # there are few


def commits_before_it_writes(every: int) -> None:
    """Bug: move the position before the effects, and crash in between on every n-th batch."""
    write = RedisInterestStore.compare_and_set
    calls = 0

    def broken(self: RedisInterestStore, snapshot: InterestSnapshot) -> bool:
        nonlocal calls
        calls += 1
        write(self, InterestSnapshot({}, snapshot.progress))
        if calls % every == 0:
            os._exit(137)
        return write(self, InterestSnapshot(snapshot.states, {}))

    RedisInterestStore.compare_and_set = broken  # type: ignore[method-assign]


def writes_twice(every: int) -> None:
    """Bug: fold every n-th event twice."""
    fold = InterestState.fold
    calls = 0

    def broken(self: InterestState, event: Event, rules: FoldRules) -> Outcome:
        nonlocal calls
        calls += 1
        outcome = fold(self, event, rules)
        if calls % every == 0:
            self._insert(event, rules)  # a bug uses internals
        return outcome

    InterestState.fold = broken  # type: ignore[method-assign]


def clock_jumps(_every: int) -> None:
    """Set the worker's clock back by an hour, and later forward again; clocks of C libraries are not affected."""
    started_s, wall_s, wall_ns = time.monotonic(), time.time, time.time_ns

    def shift_s() -> int:
        return -JUMP_S if JUMP_AFTER_S <= time.monotonic() - started_s < JUMP_BACK_AFTER_S else 0

    time.time = lambda: wall_s() + shift_s()
    time.time_ns = lambda: wall_ns() + shift_s() * 1_000_000_000


def full_disk(_every: int) -> None:
    """Fail a few checkpoints with a full disk."""
    write, failures = checkpoint.write, 0

    def planted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # whatever it takes
        nonlocal failures
        failures += 1
        if failures <= FULL_DISKS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*args, **kwargs)

    checkpoint.write = planted


PLACES: dict[str, Callable[[int], None]] = {
    "before-effect": before_effect,
    "between-stores": between_stores,
    "after-effect": after_effect,
}
DISTURBANCES: dict[str, Callable[[int], None]] = {
    "clock-jump": clock_jumps,
    "full-disk": full_disk,
}
BUGS: dict[str, Callable[[int], None]] = {
    "commits-before-it-writes": commits_before_it_writes,
    "writes-twice": writes_twice,
}
