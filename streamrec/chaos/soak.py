"""Long runs at a steady rate: memory, file descriptors and lag of the workers must stay flat."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from msgspec import Struct

from streamrec.chaos.cast import LOOK_S, Cast
from streamrec.chaos.experiment import WORKERS, come_to_rest, judge_all
from streamrec.chaos.footprint import Footprint, Sample, slope_an_hour
from streamrec.chaos.headway import Headway
from streamrec.chaos.load import Load
from streamrec.local import local_stack
from streamrec.settings import Settings

SAMPLE_S = 2.0

WARM_SHARE = 1 / 3
"""Warm-up share of the run: caches and pools grow to their size."""

MAX_GROWTH_MB = 50.0
MAX_GROWTH_HANDLES = 5.0
MAX_GROWTH_LAG_S = 2.0
"""Maximum growth of the least-squares line after the warm-up that counts as flat; lag in seconds of load."""


class WorkerFigures(Struct, kw_only=True):
    """Resources of one worker; initial values are medians over the first tenth after the warm-up."""

    memory_mb_first: float
    memory_mb_last: float
    memory_mb_an_hour: float
    handles_first: float
    handles_last: float
    handles_an_hour: float
    lag_max: int
    lag_last: float
    lag_an_hour: float
    flat: bool


class SoakFigures(Struct, kw_only=True):
    """Result of a soak test."""

    minutes: float
    rate: float
    events: int
    missing: int
    extra: int
    state_mismatches: int
    crashes: int
    workers: dict[str, WorkerFigures]
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, nothing crashed, and everything was flat."""
        faults = self.missing + self.extra + self.state_mismatches + self.crashes
        return not faults and all(worker.flat for worker in self.workers.values())


def run(*, minutes: float, rate: float, directory: Path) -> SoakFigures:
    """Produce events at a rate for this long, and sample the workers meanwhile."""
    with (
        local_stack(Settings.for_own_servers(data_dir=directory), progress=False) as stack,
        Headway(stack.settings, WORKERS) as headway,
        Cast(stack, directory / "chaos-logs") as cast,
        Footprint(cast.pids, every_s=min(SAMPLE_S, minutes)) as footprint,
    ):
        for worker in WORKERS:
            cast.start(worker)
        with Load(stack.settings.require_kafka(), seed=0, rate=rate) as load:
            started_s = time.monotonic()
            while time.monotonic() < started_s + minutes * 60:
                time.sleep(LOOK_S)
            ended_s = time.monotonic()
        crashes = cast.ended()
        come_to_rest(cast, headway)
        _, verdict = judge_all(stack.settings, WORKERS, load.acknowledged)
    judged_s = started_s + WARM_SHARE * (ended_s - started_s), ended_s
    return SoakFigures(
        minutes=minutes,
        rate=rate,
        events=load.sent,
        missing=verdict.missing,
        extra=verdict.extra,
        state_mismatches=verdict.state_mismatches,
        crashes=crashes,
        workers={
            worker: _figures(
                [sample for sample in samples if judged_s[0] <= sample.at_s <= judged_s[1]],
                [(at_s, lag) for at_s, _, lag in headway.samples[worker] if judged_s[0] <= at_s <= judged_s[1]],
                rate,
            )
            for worker, samples in footprint.samples.items()
        },
        notes=list(verdict.notes),
    )


def _figures(samples: list[Sample], lags: list[tuple[float, int]], rate: float) -> WorkerFigures:
    hours = (samples[-1].at_s - samples[0].at_s) / 3_600
    memory = slope_an_hour((sample.at_s, sample.memory_mb) for sample in samples)
    handles = slope_an_hour((sample.at_s, sample.handles) for sample in samples)
    lag = slope_an_hour(lags)
    tenth = max(1, len(samples) // 10)
    return WorkerFigures(
        memory_mb_first=round(median(sample.memory_mb for sample in samples[:tenth]), 1),
        memory_mb_last=round(median(sample.memory_mb for sample in samples[-tenth:]), 1),
        memory_mb_an_hour=round(memory, 1),
        handles_first=median(sample.handles for sample in samples[:tenth]),
        handles_last=median(sample.handles for sample in samples[-tenth:]),
        handles_an_hour=round(handles, 1),
        lag_max=max(lag for _, lag in lags),
        lag_last=median(lag for _, lag in lags[-max(1, len(lags) // 10) :]),
        lag_an_hour=round(lag, 1),
        flat=memory * hours <= MAX_GROWTH_MB
        and handles * hours <= MAX_GROWTH_HANDLES
        and lag * hours <= MAX_GROWTH_LAG_S * rate,
    )
