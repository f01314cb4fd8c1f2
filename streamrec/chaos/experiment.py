"""One chaos run: events flow, faults are injected, and finally the oracle checks the result."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamrec.adapters.redis import RedisInterestStore
from streamrec.chaos.cast import LOOK_S, SERVERS, Cast
from streamrec.chaos.faults import MEAN_PAUSE_S, Fault, schedule
from streamrec.chaos.followers import judge_followers, unread_by_checkpoint
from streamrec.chaos.headway import Headway
from streamrec.chaos.load import Acknowledged, Load
from streamrec.chaos.oracle import Ledger, Verdict, judge, judge_log, read_ledger
from streamrec.chaos.patience import PATIENCE_S
from streamrec.chaos.planted import PLACES
from streamrec.chaos.strikes import Strikes
from streamrec.errors import StreamrecError, TransientError
from streamrec.local import local_stack
from streamrec.settings import Settings

WORKERS = ("interests", "trainer", "recall", "retention")

CHECKPOINT_S = 3.0
"""Checkpoint interval of the trainer: faults occur within it."""

LAST_EVENTS, LAST_RATE = 400, 1_000.0
"""Number of events after all faults: some in every partition."""


@dataclass(slots=True)
class Outcome:
    """Result of a run.

    Parameters
    ----------
    verdict
        Result of the oracle.
    duplicates
        Number of events sent twice and counted once.
    longest_stall_s
        The longest time for which a worker had work but made no observed progress.
    recoveries
        The faults, each with the seconds until every worker had made progress or had no work.
    """

    verdict: Verdict
    duplicates: int
    longest_stall_s: float
    recoveries: list[tuple[Fault, float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a run: the same plan gives the same events and the same schedule of faults.

    Parameters
    ----------
    seed
        Random seed.
    events
        Number of events to produce; duplicates and bad records are extra.
    rate
        Events/s.
    mean_pause_s
        Mean time between two faults.
    """

    seed: int
    events: int
    rate: float
    mean_pause_s: float = MEAN_PAUSE_S


def run(plan: Plan, directory: Path, *, workers: Sequence[str] = WORKERS, bug: str | None = None) -> Outcome:
    """Execute a plan.

    Parameters
    ----------
    directory
        Data directory.
    workers
        The workers to run and to inject faults into.
    bug
        A bug to inject into `interests`, for tests of the oracle.
    """
    settings = Settings.for_own_servers(data_dir=directory, checkpoint_interval_s=CHECKPOINT_S)
    with (
        local_stack(settings, progress=False) as stack,
        Headway(stack.settings, workers) as headway,
        Cast(stack, directory / "chaos-logs") as cast,
    ):
        for worker in workers:
            cast.start(worker, plant=bug if worker == "interests" else None)
        cast.wait_until_assigned()
        with Load(stack.settings.require_kafka(), plan.seed, plan.rate, plan.events) as load:
            strikes = Strikes(cast, load.acknowledged)
            struck = _strike(cast, strikes, plan, workers)
            strikes.wait()
        with Load(stack.settings.require_kafka(), -plan.seed, LAST_RATE, LAST_EVENTS, acknowledged=load.acknowledged):
            pass  # a record follows the transaction markers in every partition: consumers do not read up to a marker
        come_to_rest(cast, headway)
        ledger, verdict = judge_all(stack.settings, workers, load.acknowledged)
    recoveries = [(fault, headway.recovery_s(at_s)) for fault, at_s in struck]
    return Outcome(verdict, ledger.duplicates, headway.longest_stall_s(), recoveries)


def judge_all(settings: Settings, workers: Sequence[str], acknowledged: Acknowledged) -> tuple[Ledger, Verdict]:
    """Compare the log with the acknowledged records, and everything stored by these workers with the log.

    The trainer must have stopped.
    """
    kafka = settings.require_kafka()
    ledger = read_ledger(kafka, settings.fold_rules)
    store = RedisInterestStore(settings.require_redis_url(), state_ttl_days=settings.state_ttl_days)
    verdict = judge_log(ledger, acknowledged) + judge(ledger, kafka, store)
    return ledger, verdict + judge_followers(ledger, settings, workers)


def _strike(cast: Cast, strikes: Strikes, plan: Plan, workers: Sequence[str]) -> list[tuple[Fault, float]]:
    """Inject the scheduled faults; return them with their times."""
    duration_s = plan.events / plan.rate
    faults = schedule(
        plan.seed,
        workers=tuple(workers),
        places=tuple(PLACES),
        servers=SERVERS,
        duration_s=duration_s,
        mean_pause_s=plan.mean_pause_s,
    )
    rng = random.Random(plan.seed)  # noqa: S311  # a reproducible choice, no secret
    struck = []
    started_s = time.monotonic()
    for fault in faults:
        _replace_until(started_s + fault.at_s, cast)
        struck.append((fault, time.monotonic()))
        strikes.inflict(fault, rng)
    _replace_until(started_s + duration_s, cast)
    return struck


def _replace_until(end_s: float, cast: Cast) -> None:
    while time.monotonic() < end_s:
        cast.replace_dead()
        time.sleep(LOOK_S)


def drain(cast: Cast, headway: Headway) -> None:
    """Wait until no work is left; frozen and dead processes are resumed and restarted first."""
    end_s = time.monotonic() + PATIENCE_S
    left: object = None
    while time.monotonic() < end_s:
        cast.replace_dead()
        try:
            left = "a sleeper" if cast.sleeps else _left(cast, headway)
        except TransientError as error:
            left = error
        if not left:
            return
        time.sleep(LOOK_S)
    raise StreamrecError(f"after {PATIENCE_S:.0f} s work is left: {left}; the workers' logs are in {cast.log_dir}")


def come_to_rest(cast: Cast, headway: Headway) -> None:
    """Drain, and stop workers in the order of the data flow, so that the next one processes each one's last records."""
    drain(cast, headway)
    cast.stop("interests")
    drain(cast, headway)
    cast.stop("trainer")


def _left(cast: Cast, headway: Headway) -> dict[str, int]:
    """Return the number of waiting records of each worker that has any."""
    left = headway.left()
    if not left and any(worker.name == "trainer" for worker in cast.workers):
        # a killed trainer may have committed offsets that are in no checkpoint; the next one reads them again
        unread = unread_by_checkpoint(cast.stack.settings)
        left = {"the trainer's checkpoint": unread} if unread else {}
    return left
