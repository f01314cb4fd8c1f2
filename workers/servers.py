"""Checks of a worker's servers before it reads anything: their identity and configuration."""

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
"""Interval between checks of an unfit server."""

ASKING = "waiting for its servers; the log names those that do not answer"
"""Why a worker is not ready meanwhile."""

ReadPositions = Callable[[Sequence[TopicPartition]], Positions]

_log = structlog.get_logger(__name__)


class Store(NamedTuple):
    """The store of a worker's effects."""

    positions: ReadPositions
    """Reads the positions of partitions."""
    identity: StoreIdentityCheck
    """Checks, before anything is read, that it belongs to this installation."""
    check: Callable[[], Sequence[str]] = tuple
    """Returns warnings about the servers. While it raises an `UnfitServerError` nothing is read: the worker waits,
    alive but not ready, and reports the reason."""


def ask_servers(worker: Background, app_id: str, store: Store) -> None:
    """Check the servers' identity and configuration before joining the group.

    Probes find no member of the group meanwhile, but must not kill a waiting worker.
    """
    with paused(app_id, ASKING):
        because = persist_until(worker.stopping, partial(_unfit, store.check))
    _wait_until_fit(worker, app_id, store.check, because)
    with paused(app_id, ASKING):
        persist_until(worker.stopping, store.identity.check)


def _unfit(check: Callable[[], Sequence[str]]) -> str:
    """Return why a server is unfit, empty if all are fit."""
    try:
        for warning in check():
            _log.warning("server", because=warning)
    except UnfitServerError as error:
        return str(error)
    return ""


def _wait_until_fit(worker: Background, app_id: str, check: Callable[[], Sequence[str]], because: str) -> None:
    """Wait, not ready, until an operator has fixed the configuration of an unfit server."""
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
