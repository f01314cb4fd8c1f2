"""`streamrec bench monitor`: the cost of monitoring a large cluster."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from msgspec.structs import astuple

from streamrec.bench.monitor import MonitorCost, fill, measure
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.local import local_stack
from streamrec.settings import Settings


def monitor(
    groups: Annotated[int, typer.Option(min=1, help="Consumer groups.")] = 12,
    topics: Annotated[int, typer.Option(min=1, help="Topics, all of which each group reads.")] = 50,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic.")] = 64,
    seconds: Annotated[float, typer.Option(min=20, help="Length of the measurement.")] = 120.0,
    as_json: Json = False,
) -> None:
    """Measure the CPU time and memory of the monitor on a large cluster where every group lags.

    Examples: streamrec bench monitor; streamrec bench monitor --groups 4 --topics 10 --partitions 4 --json
    """
    with TemporaryDirectory(prefix="streamrec-bench-") as directory:
        settings = Settings.for_own_servers(data_dir=Path(directory), monitor_port=0)
        with local_stack(settings, progress=True) as stack:
            size = {"groups": groups, "topics": topics, "partitions": partitions}
            with progress_bar() as bar:
                task = bar.add_task("groups", total=groups, rate="")
                fill(stack.settings.require_kafka(), **size, report=lambda done: bar.update(task, completed=done))
            cost = measure(stack.settings, **size, seconds=seconds)
    if as_json:
        print_json(cost)
        return
    table = DataTable(title=f"The monitor ({machine()})", title_justify="left")
    for name in MonitorCost.__struct_fields__:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*(str(value) for value in astuple(cost)))
    console().print(table)
