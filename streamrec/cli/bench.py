"""`streamrec bench`: how fast the pipeline is on this machine."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import psutil
import typer
from msgspec import Struct
from msgspec.structs import astuple
from rich.table import Table

from streamrec.adapters.redis import TopKReader
from streamrec.bench.freshness import Load, measure, percentiles
from streamrec.bench.monitor import MonitorCost, fill
from streamrec.bench.monitor import measure as measure_monitor
from streamrec.bench.population import Population, settle
from streamrec.bench.processes import ProcessWatch
from streamrec.bench.topk import TopKTime
from streamrec.bench.topk import measure as measure_topk
from streamrec.cli.output import Json, console, print_json, progress_bar
from streamrec.local import Stack, Supervisor, local_stack
from streamrec.playback.backpressure import InFlight
from streamrec.settings import Settings

WARM_UP_S = 5.0
TOPK_ITEMS = (10_000, 100_000, 1_000_000)
TOPK_USERS = (1, 16)

bench_app = typer.Typer(no_args_is_help=True, help=__doc__)


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


@bench_app.callback()
def root() -> None:
    """Measure how fast the pipeline is on this machine."""


@bench_app.command()
def freshness(  # noqa: PLR0913, PLR0917  # options of a command
    rate: Annotated[float, typer.Option(min=1, help="Clicks a second.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a run.")] = 30.0,
    runs: Annotated[int, typer.Option(min=1, help="Medians are over so many runs.")] = 3,
    users: Annotated[int, typer.Option(min=1, help="Users with a history.")] = 300_000,
    items: Annotated[int, typer.Option(min=200, help="Items that the model knows.")] = 46_000,
    mean_history: Annotated[float, typer.Option(min=1, help="Events of a user before the measurement.")] = 9.0,
    full_histories: Annotated[bool, typer.Option("--full-histories", help="Every sequence at its bound.")] = False,
    seed: Annotated[int, typer.Option(help="Decides histories, arrivals and clicks.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure from click to list, on real servers and all workers, the trainer included.

    Examples: streamrec bench freshness --rate 200 --users 20000; streamrec bench freshness --rate 2000 --json
    """
    population = Population(users, items, mean_history, full_histories, seed)
    with TemporaryDirectory(prefix="streamrec-bench-") as directory:
        settings = Settings.from_env(data_dir=Path(directory))
        with local_stack(settings, progress=True) as stack:
            _settle(population, stack.settings)
            with Supervisor(stack, Path(directory) / "logs") as supervisor:
                figures = _measure(population, stack, supervisor, rate=rate, seconds=seconds, runs=runs)
    if as_json:
        print_json(figures)
    else:
        console().print(_table(figures))


class TopKTimes(Struct, kw_only=True):
    """Exact top-100 of 64-dimensional vectors on one thread."""

    machine: str
    repeats: int
    rows: list[TopKTime]


@bench_app.command()
def topk(
    items: Annotated[list[int] | None, typer.Option(min=1_000, help="Number of items; may come several times.")] = None,
    users: Annotated[list[int] | None, typer.Option(min=1, help="Users in a search; may come several times.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Medians are over so many searches.")] = 50,
    seed: Annotated[int, typer.Option(help="Draws the vectors.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure the exact search for the items nearest to users, on one thread, against a plain one.

    Examples: streamrec bench topk; streamrec bench topk --items 100000 --users 1 --json
    """
    sizes, together = items or list(TOPK_ITEMS), users or list(TOPK_USERS)
    with progress_bar() as bar:
        task = bar.add_task("searches", total=len(sizes) * len(together), rate="")
        rows = list(bar.track(measure_topk(sizes, together, repeats=repeats, seed=seed), task_id=task))
    figures = TopKTimes(machine=machine(), repeats=repeats, rows=rows)
    if as_json:
        print_json(figures)
        return
    table = Table(title=f"Exact top-100 ({figures.machine})", title_justify="left")
    for name in TopKTime.__struct_fields__:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in astuple(row)))
    console().print(table)


@bench_app.command()
def monitor(
    groups: Annotated[int, typer.Option(min=1, help="Consumer groups.")] = 12,
    topics: Annotated[int, typer.Option(min=1, help="Topics, all of which each group reads.")] = 50,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic.")] = 64,
    seconds: Annotated[float, typer.Option(min=20, help="Length of the measurement.")] = 120.0,
    as_json: Json = False,
) -> None:
    """Measure what the monitor costs on a large cluster whose groups lag everywhere.

    Examples: streamrec bench monitor; streamrec bench monitor --groups 4 --topics 10 --partitions 4 --json
    """
    with TemporaryDirectory(prefix="streamrec-bench-") as directory:
        settings = Settings.from_env(data_dir=Path(directory), monitor_port=0)
        with local_stack(settings, progress=True) as stack:
            size = {"groups": groups, "topics": topics, "partitions": partitions}
            with progress_bar() as bar:
                task = bar.add_task("groups", total=groups, rate="")
                fill(stack.settings.require_kafka(), **size, report=lambda done: bar.update(task, completed=done))
            cost = measure_monitor(stack.settings, **size, seconds=seconds)
    if as_json:
        print_json(cost)
        return
    table = Table(title=f"The monitor ({machine()})", title_justify="left")
    for name in MonitorCost.__struct_fields__:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*(str(value) for value in astuple(cost)))
    console().print(table)


def _settle(population: Population, settings: Settings) -> None:
    with progress_bar() as bar:
        task = bar.add_task("users", total=population.users, rate="")
        settle(
            population,
            settings,
            now_ms=time.time_ns() // 1_000_000,
            report=lambda number: bar.update(task, completed=number),
        )


def _measure(
    population: Population, stack: Stack, supervisor: Supervisor, *, rate: float, seconds: float, runs: int
) -> Freshness:
    in_flight = InFlight(stack.settings)
    # the first events wait until the workers have started, and the model is there with the lists that follow
    reader = TopKReader(stack.settings.require_redis_url())
    while not (default := reader.read("")) or not default.model_version:
        Load(population, stack.settings, rate=20.0, seed=population.seed - 1).send(1.0)
        in_flight.wait_until_at_most(0)
    found = []
    with progress_bar() as bar:
        task = bar.add_task("runs", total=runs, rate="")
        for run in range(runs):
            load = Load(population, stack.settings, rate, seed=population.seed + run)
            with ProcessWatch(stack, supervisor) as watch:
                found.append(measure(load, seconds, warm_up_s=WARM_UP_S))
            in_flight.wait_until_at_most(0)
            bar.update(task, advance=1, rate=f"p99 {percentiles(found[-1].redis)['p99_ms']} ms")
    in_flight.close()
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


def machine() -> str:
    """Return what figures of this machine mean nothing without."""
    memory_gib = psutil.virtual_memory().total / (1 << 30)
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}"


def _table(figures: Freshness) -> Table:
    table = Table(title=f"Freshness at {figures.rate:g} clicks/s ({figures.machine})", title_justify="left")
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
