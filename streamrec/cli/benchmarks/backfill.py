"""`streamrec bench backfill`: time until every list includes a produced history."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from msgspec.structs import asdict

from streamrec.bench.backfill import measure
from streamrec.bench.population import Population
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.local import Supervisor, local_stack
from streamrec.settings import Settings


def backfill(
    events: Annotated[int, typer.Option(min=100, help="Clicks to produce.")] = 1_000_000,
    users: Annotated[int, typer.Option(min=10, help="Number of users.")] = 100_000,
    items: Annotated[int, typer.Option(min=200, help="Number of items.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Random seed of the clicks.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure a backfill at full speed, until all lists include it and the pipeline reports healthy.

    Examples: streamrec bench backfill; streamrec bench backfill --events 50000 --users 5000 --json
    """
    population = Population(users, items, mean_history=1.0, full_histories=False, seed=seed)
    with TemporaryDirectory(prefix="streamrec-bench-") as directory:
        settings = Settings.for_own_servers(data_dir=Path(directory))
        with (
            local_stack(settings, progress=True) as stack,
            Supervisor(stack, Path(directory) / "logs"),
            progress_bar() as bar,
        ):
            task = bar.add_task("producing", total=events, rate="")
            figures = measure(population, stack.settings, events, lambda produced: bar.update(task, completed=produced))
    if as_json:
        print_json({"machine": machine(), **asdict(figures)})
        return
    table = DataTable(title=f"Backfill ({machine()})", title_justify="left", show_header=False)
    for name, value in asdict(figures).items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    console().print(table)
