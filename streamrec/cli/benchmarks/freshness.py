"""`streamrec bench freshness`: click-to-list latency, with all workers running."""

from __future__ import annotations

from statistics import median
from typing import Annotated

import numpy as np
import typer
from msgspec import Struct

from streamrec.bench import floor
from streamrec.bench.freshness import Run, measure, percentiles
from streamrec.bench.load import Load
from streamrec.bench.population import Population
from streamrec.bench.processes import ProcessWatch
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.benchmarks.pipeline import RunningPipeline, running_pipeline
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar

WARM_UP_S = 5.0
FLOOR_S, FLOOR_WARM_UP_S = 10.0, 1.0
"""Maximum duration of the floor measurement before each run; at most as long as the run."""


class Freshness(Struct, kw_only=True):
    """Medians over the runs; spreads are the lowest and the highest run."""

    machine: str
    rate: float
    users: int
    items: int
    mean_history: float
    runs: int
    """Number of runs; a saturated one is the last."""
    seconds: float
    """Seconds per run."""
    saturated: bool
    """Whether the machine could not sustain the rate; latencies then grow with the length of a run."""
    rate_reached: float
    """Clicks/s with lists, from the first click to the last list; of the slowest run."""
    unlisted: int
    """Clicks without a list 30 s after the last click; their latency counts until then."""
    redis_p50_ms: float
    redis_p95_ms: float
    redis_p99_ms: float
    redis_max_ms: float
    redis_p99_spread_ms: tuple[float, float]
    kafka_p50_ms: float
    kafka_p95_ms: float
    kafka_p99_ms: float
    kafka_max_ms: float
    floor_p50_ms: float
    """The same clicks over two no-op hops, topic to topic to Redis, just before each run."""
    floor_p95_ms: float
    floor_p99_ms: float
    floor_max_ms: float
    p50_ratio: float
    """`redis_p50_ms` over `floor_p50_ms`."""
    p99_ratio: float
    stages: dict[str, dict[str, float]]
    """Latencies by stage, of the last run."""
    cpu: dict[str, float]
    """Mean number of busy cores of each process in the last run."""
    rss_mb: dict[str, float]


def freshness(  # noqa: PLR0913, PLR0917  # options of a command
    rate: Annotated[float, typer.Option(min=1, max=1_000_000, help="Clicks per second.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a run.")] = 30.0,
    runs: Annotated[int, typer.Option(min=1, help="Number of runs; medians are over all of them.")] = 3,
    users: Annotated[int, typer.Option(min=1, help="Users with a history.")] = 300_000,
    items: Annotated[int, typer.Option(min=200, help="Items that the model knows.")] = 46_000,
    mean_history: Annotated[float, typer.Option(min=1, help="Events of a user before the measurement.")] = 9.0,
    full_histories: Annotated[bool, typer.Option("--full-histories", help="Sequences of maximum length.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed of histories, arrivals and clicks.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure click-to-list latency on real servers with all workers, including the trainer, as multiples of a floor.

    If the machine cannot sustain the rate, the result is marked as saturated and contains the rate reached.

    Examples: streamrec bench freshness --rate 200 --users 20000; streamrec bench freshness --rate 2000 --json
    """
    population = Population(users, items, mean_history, full_histories, seed)
    with running_pipeline(population) as running, floor.relays(running.stack):
        figures = _measure(population, running, rate=rate, seconds=seconds, runs=runs)
    if as_json:
        print_json(figures)
    else:
        console().print(_table(figures))


def _measure(population: Population, running: RunningPipeline, *, rate: float, seconds: float, runs: int) -> Freshness:
    stack, supervisor, in_flight = running
    floors: list[np.ndarray] = []
    found: list[Run] = []
    with progress_bar() as bar:
        for run in bar.track(range(runs), description="runs"):
            load = Load(population, stack.settings, rate, seed=population.seed + run)
            floors.append(floor.measure(load, min(seconds, FLOOR_S), warm_up_s=FLOOR_WARM_UP_S))
            with ProcessWatch(stack, supervisor) as watch:
                found.append(measure(load, seconds, warm_up_s=WARM_UP_S))
            if found[-1].saturated:  # the next run would start with a backlog
                break
            in_flight.wait_until_at_most(0)
    latencies = [each.latencies for each in found]
    redis, kafka = [percentiles(each.redis) for each in latencies], [percentiles(each.kafka) for each in latencies]
    p99s_ms = [each["p99_ms"] for each in redis]
    medians = {
        f"{name}_{percentile}": round(median(each[percentile] for each in runs_of), 2)
        for name, runs_of in (("redis", redis), ("kafka", kafka), ("floor", list(map(percentiles, floors))))
        for percentile in _PERCENTILES
    }
    return Freshness(
        machine=machine(),
        rate=rate,
        users=population.users,
        items=population.items,
        mean_history=stack.settings.sequence_length if population.full_histories else population.mean_history,
        runs=len(found),
        seconds=seconds,
        saturated=any(each.saturated for each in found),
        rate_reached=min(each.rate_reached for each in found),
        unlisted=sum(each.unlisted for each in found),
        **medians,
        redis_p99_spread_ms=(min(p99s_ms), max(p99s_ms)),
        p50_ratio=round(medians["redis_p50_ms"] / medians["floor_p50_ms"], 1),
        p99_ratio=round(medians["redis_p99_ms"] / medians["floor_p99_ms"], 1),
        stages=latencies[-1].stages(),
        cpu=watch.cpu,
        rss_mb=watch.rss_mb,
    )


def _table(figures: Freshness) -> DataTable:
    table = DataTable(title=f"Freshness at {figures.rate:g} clicks/s ({figures.machine})", title_justify="left")
    for column in ("", "p50 ms", "p95 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {
        "click to list in Redis": _percentiles_of(figures, "redis"),
        "click to list on Kafka": _percentiles_of(figures, "kafka"),
        **{f"  {stage}": [values[name] for name in _PERCENTILES] for stage, values in figures.stages.items()},
        "floor: two no-op hops": _percentiles_of(figures, "floor"),
    }
    for label, values in rows.items():
        table.add_row(label, *(f"{value:.1f}" for value in values))
    ratios = f"{figures.p50_ratio:g} times the floor at p50, {figures.p99_ratio:g} times at p99"
    processes = "  ".join(
        f"{name}: {cores:.2f} cores, {figures.rss_mb[name]:.0f} MiB" for name, cores in figures.cpu.items()
    )
    table.caption = "\n".join([_verdict(figures), ratios, processes])
    return table


def _verdict(figures: Freshness) -> str:
    if not figures.saturated:
        return f"sustained: lists for {figures.rate_reached:g} clicks/s"
    return (
        f"saturated: this machine cannot sustain {figures.rate:g} clicks/s; lists arrived for "
        f"{figures.rate_reached:g} clicks/s, {figures.unlisted:,} clicks had none at the end"
    )


def _percentiles_of(figures: Freshness, name: str) -> list[float]:
    return [getattr(figures, f"{name}_{percentile}") for percentile in _PERCENTILES]


_PERCENTILES = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
