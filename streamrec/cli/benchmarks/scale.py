"""`streamrec bench scale`: memory per user, cost of an idle pipeline, throughput by number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from msgspec import Struct

from streamrec.bench.load import Load
from streamrec.bench.population import Population
from streamrec.bench.scale import Idle, Throughput, bytes_per_list, throughput, used_bytes, watch_idle
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.benchmarks.pipeline import settle_population, wait_for_model
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.local import Stack, Supervisor, local_stack
from streamrec.local.supervisor import WORKERS
from streamrec.playback.backpressure import InFlight
from streamrec.settings import Settings

ITEMS, MEAN_HISTORY = 46_000, 9.0
LISTS_RATE, LISTS_S = 50.0, 10.0
SPREAD = ((1, 1), (4, 1), (4, 2))
"""Partitions of `clicks`, and processes sharing them."""


class Scale(Struct, kw_only=True):
    """Costs by users and processes."""

    machine: str
    users: int
    redis_bytes_per_user: float
    """Interest state only; a list is extra."""
    redis_bytes_per_list: float
    idle_cpu_percent: float
    """Percent of one core, all workers together."""
    idle_cpu_percent_by_process: dict[str, float]
    rss_mb: dict[str, float]
    rows: list[Throughput]


def scale(
    users: Annotated[int, typer.Option(min=100, help="Users with a history.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds to observe the idle pipeline.")] = 60.0,
    events: Annotated[int, typer.Option(min=100, help="Backlog of clicks to process.")] = 200_000,
    seed: Annotated[int, typer.Option(help="Random seed of histories and clicks.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure memory per user, CPU time of an idle pipeline, and throughput by partitions and processes.

    Examples: streamrec bench scale; streamrec bench scale --users 100000 --seconds 20 --json
    """
    population = Population(users, ITEMS, MEAN_HISTORY, full_histories=False, seed=seed)
    with _stack() as stack:
        settle_population(population, stack.settings)
        bytes_per_user = used_bytes(stack) / users
        list_bytes, idle = _run(population, stack, seconds)
    figures = Scale(
        machine=machine(),
        users=users,
        redis_bytes_per_user=round(bytes_per_user, 1),
        redis_bytes_per_list=round(list_bytes, 1),
        idle_cpu_percent=round(sum(idle.cpu_percent[name] for name in WORKERS), 2),
        idle_cpu_percent_by_process=idle.cpu_percent,
        rss_mb=idle.rss_mb,
        rows=_throughputs(Population(events // 9 + 1, ITEMS, MEAN_HISTORY, full_histories=False, seed=seed), events),
    )
    if as_json:
        print_json(figures)
    else:
        console().print(_table(figures))


@contextmanager
def _stack(**changed: int) -> Iterator[Stack]:
    with TemporaryDirectory(prefix="streamrec-bench-") as directory:
        settings = Settings.for_own_servers(data_dir=Path(directory), **changed)
        with local_stack(settings, progress=True) as stack:
            yield stack


def _run(population: Population, stack: Stack, seconds: float) -> tuple[float, Idle]:
    """Let all workers make some lists, then idle; return the bytes of a list and the idle CPU use."""
    with (
        Supervisor(stack, stack.settings.data_dir / "logs") as supervisor,
        closing(InFlight(stack.settings)) as waiting,
    ):
        wait_for_model(population, stack.settings, waiting)
        Load(population, stack.settings, LISTS_RATE, population.seed).send(LISTS_S)
        waiting.wait_until_at_most(0)
        return bytes_per_list(stack), watch_idle(stack, supervisor, seconds)


def _throughputs(population: Population, events: int) -> list[Throughput]:
    rows = []
    with progress_bar() as bar:
        for partitions, processes in bar.track(SPREAD, description="partitions and processes"):
            with _stack(partitions=partitions) as stack:
                rows.append(throughput(stack, population, events, processes))
    return rows


def _table(figures: Scale) -> DataTable:
    table = DataTable(title=f"Scale ({figures.machine})", title_justify="left")
    for name in ("partitions", "processes", "events/s"):
        table.add_column(name, justify="right")
    for row in figures.rows:
        table.add_row(str(row.partitions), str(row.processes), f"{row.events_per_s:,.0f}")
    idle = ", ".join(f"{name} {percent} %" for name, percent in figures.idle_cpu_percent_by_process.items())
    table.caption = (
        f"{figures.users:,} users: {figures.redis_bytes_per_user:g} bytes each in Redis, "
        f"{figures.redis_bytes_per_list:g} for a list; idle, of one core: {idle}"
    )
    return table
