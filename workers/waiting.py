"""Waiting and retries of workers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, NamedTuple, TypeVar

import structlog
import tenacity

from streamrec.adapters.kafka import BatchSource, BroadcastReader
from streamrec.errors import TransientError, WrongTopicError
from streamrec.metrics import PAUSED, WAITING, reader_metrics, standstill, worker_metrics
from streamrec.service.batch import Batch
from workers.readiness import paused

GROUP_PREFIX = "streamrec-"

POLL_S = 1.0
"""How long an idle consumer sleeps; a record wakes it immediately. A stop is noticed within this time, or within
seconds while the broker is unavailable."""

MAX_PAUSE_S = 2.0
"""Maximum backoff between retries: work continues this soon after the server is back."""

PAUSE_REMINDER_S = 60.0

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Background(NamedTuple):
    """The app's context for blocking work in a thread."""

    loop: asyncio.AbstractEventLoop
    stopping: threading.Event


def poll(source: BatchSource | BroadcastReader, worker: Background) -> Batch | None:
    """Return what has arrived, retrying transient errors until the worker is to stop."""
    try:
        return persist_until(worker.stopping, partial(source.poll, POLL_S))
    except TransientError:
        if not worker.stopping.is_set():
            raise
        return None


def count_refused(worker: str, *refused: Counter[tuple[str, str]]) -> None:
    """Count records refused outside of batches, by topic and reason, and reset their counts."""
    for counts in refused:
        worker_metrics().record_refused(worker, counts)
        counts.clear()


def while_right(
    app_id: str, worker: Background, open_source: Callable[[], BatchSource], work: Callable[[BatchSource], None]
) -> None:
    """Work on a source, and wait outside of the group while a topic is not the one that the store's positions refer to.

    If the process exited instead, it would be restarted, and join and leave the group forever.
    """
    said = ""
    with ExitStack() as refusal:
        while not worker.stopping.is_set():
            try:
                with closing(open_source()) as source:
                    refusal.close()
                    said = ""
                    work(source)
            except WrongTopicError as error:
                reader_metrics().record_refusal(app_id.removeprefix(GROUP_PREFIX))
                _log.error("refused", because=str(error))
                if str(error) != said:
                    refusal.close()
                    said = str(error)
                    refusal.enter_context(paused(app_id, said))
                    refusal.enter_context(standstill().of(PAUSED))(said)
                worker.stopping.wait(PAUSE_REMINDER_S)


def persist_until(stopping: threading.Event, work: Callable[[], T]) -> T:
    """Run the work in this thread, retrying while a store or the broker is unavailable, until the worker stops."""
    with standstill().of(WAITING) as say:
        retrying = tenacity.Retrying(
            **while_away(say),
            stop=tenacity.stop_when_event_set(stopping),
            sleep=tenacity.sleep_using_event(stopping),
            reraise=True,
        )
        return retrying(work)


def while_away(say: Callable[[str], None]) -> dict[str, Any]:
    """Return the settings of an indefinite retry that logs the reason of each attempt."""

    def report(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        because = str(state.outcome.exception())
        _log.warning("retry", attempt=state.attempt_number, because=because)
        say(because)

    return {
        "retry": tenacity.retry_if_exception_type(TransientError),
        "wait": tenacity.wait_random_exponential(multiplier=0.1, max=MAX_PAUSE_S),
        "before_sleep": report,
    }
