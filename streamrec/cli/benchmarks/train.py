"""`streamrec bench train`: training throughput and model freshness."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import numpy as np
import typer
from msgspec import Struct

from streamrec.bench.load import Load
from streamrec.bench.model_freshness import measure as measure_freshness
from streamrec.bench.population import Population
from streamrec.bench.train import TrainSpeed
from streamrec.bench.train import measure as measure_speed
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.benchmarks.pipeline import running_pipeline
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar

ITEMS = (10_000, 1_000_000)
USERS, PIPELINE_ITEMS, MEAN_HISTORY = 20_000, 46_000, 9.0
WARM_UP_S = 10.0


class TrainFigures(Struct, kw_only=True):
    """Speed of gradient steps, and model freshness of a running pipeline."""

    machine: str
    rows: list[TrainSpeed]
    rate: float
    """Clicks/s while model freshness was measured."""
    model_freshness_p50_s: float | None
    model_freshness_p95_s: float | None
    model_freshness_p99_s: float | None
    """From production to the first list made by weights that learned the event; `None` if not measured."""


def train(  # noqa: PLR0913, PLR0917  # options of a command
    items: Annotated[list[int] | None, typer.Option(min=1_000, help="Number of items; repeatable.")] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the steps run.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of a step on the CPU.")] = os.cpu_count() or 1,
    steps: Annotated[int, typer.Option(min=1, help="Number of steps; medians are over all of them.")] = 50,
    rate: Annotated[float, typer.Option(min=0, help="Clicks/s while model freshness is measured; 0 skips it.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds to measure model freshness.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Random seed of batches, arrivals and clicks.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure training throughput (tokens/s), and the time from a click to serving weights that learned it.

    Examples: streamrec bench train --json; streamrec bench train --items 10000 --device cuda --rate 0
    """
    sizes = items or list(ITEMS)
    with progress_bar() as bar:
        task = bar.add_task("steps", total=len(sizes), rate="")
        speeds = measure_speed(sizes, device=device, threads=threads, steps=steps, seed=seed)
        rows = list(bar.track(speeds, task_id=task))
    fresh = _model_freshness(rate, seconds, seed) if rate else (None, None, None)
    figures = TrainFigures(
        machine=machine(),
        rows=rows,
        rate=rate,
        model_freshness_p50_s=fresh[0],
        model_freshness_p95_s=fresh[1],
        model_freshness_p99_s=fresh[2],
    )
    if as_json:
        print_json(figures)
    else:
        console().print(_table(figures))


def _model_freshness(rate: float, seconds: float, seed: int) -> tuple[float, float, float]:
    population = Population(USERS, PIPELINE_ITEMS, MEAN_HISTORY, full_histories=False, seed=seed)
    with running_pipeline(population) as running:
        load = Load(population, running.stack.settings, rate, seed)
        delays_s = measure_freshness(load, seconds, warm_up_s=WARM_UP_S)
    p50, p95, p99 = (round(float(value), 2) for value in np.percentile(delays_s, (50, 95, 99)))
    return p50, p95, p99


def _table(figures: TrainFigures) -> DataTable:
    table = DataTable(title=f"Training ({figures.machine})", title_justify="left")
    for name in TrainSpeed.__struct_fields__:
        table.add_column(name.replace("_", " "), justify="right")
    for row in figures.rows:
        speeds = (f"{speed:,.0f}" for speed in (row.tokens_per_s, row.slowest_tokens_per_s))
        table.add_row(f"{row.items:,}", row.device, str(row.threads), *speeds)
    if figures.model_freshness_p95_s is not None:
        table.caption = (
            f"model freshness at {figures.rate:g} clicks/s: p50 {figures.model_freshness_p50_s} s, "
            f"p95 {figures.model_freshness_p95_s} s, p99 {figures.model_freshness_p99_s} s"
        )
    return table
