"""A server goes away for a while under load: nothing may be lost, nothing may crash, memory must stay where it was."""

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
"""The setting that names a server."""

WAITING = {
    "redis": ("interests", "recall"),
    "postgres": ("retention",),
    "kafka": ("interests", "recall", "retention"),
}
"""Who has to catch up after a server was away. The trainer gives way to them, and does so in its own time."""

NEAR_S = 2.0
"""A worker has caught up when no more waits for it than arrives in so long."""

MAX_CATCH_UP_S = 60.0
MAX_GROWTH_MB = 50.0
SAMPLE_S = 0.5


class OutageFigures(Struct, kw_only=True):
    """What an outage did."""

    server: str
    away_s: float
    rate: float
    events: int
    missing: int
    extra: int
    state_mismatches: int
    crashes: int
    """Workers that ended."""
    rebalances: int
    """Assignments of partitions since the server went away."""
    catch_up_s: float
    """From the return of the server until nobody who had waited for it was behind."""
    memory_growth_mb: dict[str, float]
    """The most that each worker took after the server went away, less what it took before."""
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, nothing crashed, and those who waited kept within the limits of time and memory."""
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
    """Let a server be away while events flow.

    Parameters
    ----------
    server
        Which one; see `SERVERS`.
    away_s
        For how long.
    rate
        Events a second, all the time.
    warm_s
        How long all workers keep up before, so that their memory has found its size.
    directory
        Where everything is kept.
    workers
        Which ones run.
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
    """Wait from now on until none of the workers is further behind, and return the seconds that it took."""
    since_s = time.monotonic()
    while not headway.near(workers, since_s, records=records):
        if time.monotonic() > since_s + PATIENCE_S:
            raise StreamrecError(f"after {PATIENCE_S:.0f} s the workers are still behind: {headway.left()}")
        time.sleep(LOOK_S)
    return time.monotonic() - since_s
