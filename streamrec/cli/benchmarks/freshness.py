"""`streamrec bench freshness`: from click to list, with all workers running."""

from __future__ import annotations

from statistics import median
from typing import Annotated

import typer
from msgspec import Struct

from streamrec.bench.freshness import Load, measure, percentiles
from streamrec.bench.population import Population
from streamrec.bench.processes import ProcessWatch
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.benchmarks.pipeline import RunningPipeline, running_pipeline
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar

WARM_UP_S = 5.0


class Freshness(Struct, kw_only=True):
    """Medians over the runs; spreads are the lowest and the highest run."""

    machine: str
    rate: float
    users: int
    items: int
    mean_history: float
    runs: int
    seconds: float
    """Of a run."""
    redis_p50_ms: float
    redis_p95_ms: float
    redis_p99_ms: float
    redis_max_ms: float
    redis_p99_spread_ms: tuple[float, float]
    kafka_p50_ms: float
    kafka_p95_ms: float
    kafka_p99_ms: float
    kafka_max_ms: float
    stages: dict[str, dict[str, float]]
    """Where the time went, of the last run."""
    cpu: dict[str, float]
    """Cores that each process kept busy in the last run."""
    rss_mb: dict[str, float]


def freshness(  # noqa: PLR0913, PLR0917  # options of a command
    rate: Annotated[float, typer.Option(min=1, help="Clicks per second.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a run.")] = 30.0,
    runs: Annotated[int, typer.Option(min=1, help="Number of runs; medians are over all of them.")] = 3,
    users: Annotated[int, typer.Option(min=1, help="Users with a history.")] = 300_000,
    items: Annotated[int, typer.Option(min=200, help="Items that the model knows.")] = 46_000,
    mean_history: Annotated[float, typer.Option(min=1, help="Events of a user before the measurement.")] = 9.0,
    full_histories: Annotated[bool, typer.Option("--full-histories", help="Sequences of maximum length.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed of histories, arrivals and clicks.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure click-to-list latency on real servers with all workers, including the trainer.

    Examples: streamrec bench freshness --rate 200 --users 20000; streamrec bench freshness --rate 2000 --json
    """
    population = Population(users, items, mean_history, full_histories, seed)
    with running_pipeline(population) as running:
        figures = _measure(population, running, rate=rate, seconds=seconds, runs=runs)
    if as_json:
        print_json(figures)
    else:
        console().print(_table(figures))


def _measure(population: Population, running: RunningPipeline, *, rate: float, seconds: float, runs: int) -> Freshness:
    stack, supervisor, in_flight = running
    found = []
    with progress_bar() as bar:
        task = bar.add_task("runs", total=runs, rate="")
        for run in range(runs):
            load = Load(population, stack.settings, rate, seed=population.seed + run)
            with ProcessWatch(stack, supervisor) as watch:
                found.append(measure(load, seconds, warm_up_s=WARM_UP_S))
            in_flight.wait_until_at_most(0)
            bar.update(task, advance=1, rate=f"p99 {percentiles(found[-1].redis)['p99_ms']} ms")
    redis, kafka = [percentiles(each.redis) for each in found], [percentiles(each.kafka) for each in found]
    p99s_ms = [each["p99_ms"] for each in redis]
    return Freshness(
        machine=machine(),
        rate=rate,
        users=population.users,
        items=population.items,
        mean_history=stack.settings.sequence_length if population.full_histories else population.mean_history,
        runs=runs,
        seconds=seconds,
        **{f"redis_{name}": median(each[name] for each in redis) for name in redis[0]},
        redis_p99_spread_ms=(min(p99s_ms), max(p99s_ms)),
        **{f"kafka_{name}": median(each[name] for each in kafka) for name in kafka[0]},
        stages=found[-1].stages(),
        cpu=watch.cpu,
        rss_mb=watch.rss_mb,
    )


def _table(figures: Freshness) -> DataTable:
    table = DataTable(title=f"Freshness at {figures.rate:g} clicks/s ({figures.machine})", title_justify="left")
    for column in ("", "p50 ms", "p95 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {
        "click to list in Redis": [getattr(figures, f"redis_{name}") for name in _PERCENTILES],
        "click to list on Kafka": [getattr(figures, f"kafka_{name}") for name in _PERCENTILES],
        **{f"  {stage}": [values[name] for name in _PERCENTILES] for stage, values in figures.stages.items()},
    }
    for label, values in rows.items():
        table.add_row(label, *(f"{value:.1f}" for value in values))
    table.caption = "  ".join(
        f"{name}: {cores:.2f} cores, {figures.rss_mb[name]:.0f} MiB" for name, cores in figures.cpu.items()
    )
    return table


_PERCENTILES = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
