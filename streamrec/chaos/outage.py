"""A server outage under load: nothing may be lost, nothing may crash, and memory must not grow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from streamrec.chaos.cast import KAFKA, LOOK_S, POSTGRES, REDIS, Cast
from streamrec.chaos.experiment import WORKERS, come_to_rest, judge_all
from streamrec.chaos.footprint import Footprint
from streamrec.chaos.headway import Headway
from streamrec.chaos.load import Load
from streamrec.chaos.patience import PATIENCE_S
from streamrec.errors import StreamrecError
from streamrec.local import local_stack
from streamrec.settings import Settings

SERVERS = {"redis": REDIS, "postgres": POSTGRES, "kafka": KAFKA}
"""Setting with the address of each server."""

WAITING = {
    "redis": ("interests", "recall"),
    "postgres": ("retention",),
    "kafka": ("interests", "recall", "retention"),
}
"""Workers that must catch up after an outage. The trainer has lower priority and may take longer."""

NEAR_S = 2.0
"""A worker has caught up when at most this many seconds of load wait for it."""

MAX_CATCH_UP_S = 60.0
MAX_GROWTH_MB = 50.0
SAMPLE_S = 0.5


class OutageFigures(Struct, kw_only=True):
    """Effects of an outage."""

    server: str
    away_s: float
    rate: float
    events: int
    missing: int
    extra: int
    state_mismatches: int
    crashes: int
    """Workers that exited."""
    rebalances: int
    """Partition assignments since the start of the outage."""
    catch_up_s: float
    """Seconds from the return of the server until all affected workers had caught up."""
    memory_growth_mb: dict[str, float]
    """Peak memory of each worker since the start of the outage, minus that before."""
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, nothing crashed, and affected workers kept the limits of time and memory."""
        faults = self.missing + self.extra + self.state_mismatches + self.crashes
        return (
            not faults
            and self.catch_up_s <= MAX_CATCH_UP_S
            and all(self.memory_growth_mb[worker] <= MAX_GROWTH_MB for worker in WAITING[self.server])
        )


def run(
    server: str,
    *,
    away_s: float,
    rate: float,
    warm_s: float,
    directory: Path,
    workers: Sequence[str] = WORKERS,
) -> OutageFigures:
    """Stop a server for a while under load.

    Parameters
    ----------
    server
        The server; see `SERVERS`.
    away_s
        Length of the outage.
    rate
        Events/s during the whole run.
    warm_s
        Warm-up, after which the workers' memory is stable.
    directory
        Data directory.
    workers
        The workers to run.
    """
    with (
        local_stack(Settings.for_own_servers(data_dir=directory), progress=False) as stack,
        Headway(stack.settings, workers) as headway,
        Cast(stack, directory / "chaos-logs") as cast,
        Footprint(cast.pids, every_s=SAMPLE_S) as footprint,
    ):
        for worker in workers:
            cast.start(worker)
        with Load(stack.settings.require_kafka(), seed=0, rate=rate) as load:
            _wait_until_near(headway, workers, float("inf"))
            _wait_until_near(headway, WAITING[server], NEAR_S * rate)
            time.sleep(warm_s)
            gone_s, assigned = time.monotonic(), sum(cast.assignments().values())
            cast.kill_server(SERVERS[server])
            time.sleep(away_s)
            cast.start_server(SERVERS[server])
            catch_up_s = _wait_until_near(headway, WAITING[server], NEAR_S * rate)
        crashes = cast.ended()
        come_to_rest(cast, headway)
        rebalances = sum(cast.assignments().values()) - assigned
        _, verdict = judge_all(stack.settings, workers, load.acknowledged)
    return OutageFigures(
        server=server,
        away_s=away_s,
        rate=rate,
        events=load.sent,
        missing=verdict.missing,
        extra=verdict.extra,
        state_mismatches=verdict.state_mismatches,
        crashes=crashes,
        rebalances=rebalances,
        catch_up_s=round(catch_up_s, 1),
        memory_growth_mb=footprint.growth_mb(gone_s),
        notes=list(verdict.notes),
    )


def _wait_until_near(headway: Headway, workers: Sequence[str], records: float) -> float:
    """Wait until all workers have caught up, and return the seconds it took."""
    since_s = time.monotonic()
    while not headway.near(workers, since_s, records=records):
        if time.monotonic() > since_s + PATIENCE_S:
            raise StreamrecError(f"after {PATIENCE_S:.0f} s the workers are still behind: {headway.left()}")
        time.sleep(LOOK_S)
    return time.monotonic() - since_s
