"""One chaos run: events flow, things die, and in the end the oracle looks at what is left."""

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
"""Between two checkpoints of the trainer: faults strike within."""

LAST_EVENTS, LAST_RATE = 400, 1_000.0
"""Events after all faults: some in every partition."""


@dataclass(slots=True)
class Outcome:
    """What a run showed.

    Parameters
    ----------
    verdict
        What the oracle says.
    duplicates
        Events that were sent twice and counted once.
    longest_stall_s
        The longest time in which a worker had work and was not seen to make headway.
    recoveries
        The faults, each with the seconds until every worker had made headway or had nothing to do.
    """

    verdict: Verdict
    duplicates: int
    longest_stall_s: float
    recoveries: list[tuple[Fault, float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in a run: the same plan gives the same events and the same schedule of faults.

    Parameters
    ----------
    seed
        What decides.
    events
        Events to produce; copies and poison come on top.
    rate
        Events a second.
    mean_pause_s
        Between two faults.
    """

    seed: int
    events: int
    rate: float
    mean_pause_s: float = MEAN_PAUSE_S


def run(plan: Plan, directory: Path, *, workers: Sequence[str] = WORKERS, bug: str | None = None) -> Outcome:
    """Let a plan happen.

    Parameters
    ----------
    directory
        Where everything is kept.
    workers
        Which ones run and are struck.
    bug
        A bug to plant in `interests`, for tests of the oracle.
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
            pass  # a record follows the marks of transactions in every partition: nobody reads up to a mark
        come_to_rest(cast, headway)
        ledger, verdict = judge_all(stack.settings, workers, load.acknowledged)
    recoveries = [(fault, headway.recovery_s(at_s)) for fault, at_s in struck]
    return Outcome(verdict, ledger.duplicates, headway.longest_stall_s(), recoveries)


def judge_all(settings: Settings, workers: Sequence[str], acknowledged: Acknowledged) -> tuple[Ledger, Verdict]:
    """Compare the log with what the broker acknowledged, and all that these workers keep with the log.

    The trainer must have ended.
    """
    kafka = settings.require_kafka()
    ledger = read_ledger(kafka, sequence_length=settings.sequence_length, keep_seen=settings.hide_seen)
    store = RedisInterestStore(settings.require_redis_url(), state_ttl_days=settings.state_ttl_days)
    verdict = judge_log(ledger, acknowledged) + judge(ledger, kafka, store)
    return ledger, verdict + judge_followers(ledger, settings, workers)


def _strike(cast: Cast, strikes: Strikes, plan: Plan, workers: Sequence[str]) -> list[tuple[Fault, float]]:
    """Let the scheduled faults happen; answer which, and when."""
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
    """Wait until nothing waits; whatever is still asleep or dead comes back first."""
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
    raise StreamrecError(f"after {PATIENCE_S:.0f} s there is left: {left}; the workers' logs are in {cast.log_dir}")


def come_to_rest(cast: Cast, headway: Headway) -> None:
    """Drain, and end what makes changes in the order of the flow: what one still sends finds the next one at work."""
    drain(cast, headway)
    cast.stop("interests")
    drain(cast, headway)
    cast.stop("trainer")


def _left(cast: Cast, headway: Headway) -> dict[str, int]:
    """Return how many records wait for each worker that has any left."""
    left = headway.left()
    if not left and any(worker.name == "trainer" for worker in cast.workers):
        # one that was killed may have committed what no checkpoint holds, and the next one reads that again
        unread = unread_by_checkpoint(cast.stack.settings)
        left = {"the trainer's checkpoint": unread} if unread else {}
    return left
