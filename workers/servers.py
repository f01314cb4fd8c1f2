"""What a worker must know of its servers before it reads anything: that they are ours, and fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from streamrec.errors import UnfitServerError
from streamrec.metrics import PAUSED, standstill
from streamrec.service.batch import Positions, TopicPartition
from streamrec.service.store_identity import StoreIdentityCheck
from workers.readiness import paused
from workers.waiting import PAUSE_REMINDER_S, Background, persist_until

RECHECK_S = 3.0
"""A server that was not fit is asked again so often."""

ASKING = "its servers are asked first: the log names what does not answer"
"""Why a worker is not ready meanwhile."""

ReadPositions = Callable[[Sequence[TopicPartition]], Positions]

_log = structlog.get_logger(__name__)


class Store(NamedTuple):
    """What a worker must know of the store that holds its effects."""

    positions: ReadPositions
    """Reads how far each partition is contained in it."""
    identity: StoreIdentityCheck
    """Tells, before anything is read, whether it belongs to this installation."""
    check: Callable[[], Sequence[str]] = tuple
    """Returns what an operator should know of the servers. While it raises an `UnfitServerError` nothing is read: the
    worker waits, alive and not ready, and says why."""


def ask_servers(worker: Background, app_id: str, store: Store) -> None:
    """Make sure that the servers are ours and fit, before the group is joined.

    A probe finds no member of the group meanwhile, and must not end a worker that waits.
    """
    with paused(app_id, ASKING):
        because = persist_until(worker.stopping, partial(_unfit, store.check))
    _wait_until_fit(worker, app_id, store.check, because)
    with paused(app_id, ASKING):
        persist_until(worker.stopping, store.identity.check)


def _unfit(check: Callable[[], Sequence[str]]) -> str:
    """Return why a server is unfit, empty if none is."""
    try:
        for warning in check():
            _log.warning("server", because=warning)
    except UnfitServerError as error:
        return str(error)
    return ""


def _wait_until_fit(worker: Background, app_id: str, check: Callable[[], Sequence[str]], because: str) -> None:
    """Wait, not ready, while a server is set up so that work would be lost; an operator mends that meanwhile."""
    reminder_due_s = time.monotonic()
    with standstill().of(PAUSED) as say:
        while because and not worker.stopping.is_set():
            say(because)
            if time.monotonic() >= reminder_due_s:
                _log.error("paused", because=because)
                reminder_due_s = time.monotonic() + PAUSE_REMINDER_S
            with paused(app_id, because):
                worker.stopping.wait(RECHECK_S)
                because = persist_until(worker.stopping, partial(_unfit, check))
