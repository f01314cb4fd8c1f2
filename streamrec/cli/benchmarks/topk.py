"""`streamrec bench topk`: exact nearest-neighbour search over items."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import Struct
from msgspec.structs import astuple

from streamrec.bench.peer_environment import peer_python
from streamrec.bench.topk import TopKTime, measure
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.errors import UsageError
from streamrec.model.retrievers.products import KERNELS, Kernel

ITEMS = (10_000, 100_000, 1_000_000)
USERS = (1, 16)


class TopKTimes(Struct, kw_only=True):
    """Exact top-100 of 64-dimensional vectors on one thread."""

    machine: str
    repeats: int
    rows: list[TopKTime]


def topk(
    items: Annotated[list[int] | None, typer.Option(min=1_000, help="Number of items; repeatable.")] = None,
    users: Annotated[list[int] | None, typer.Option(min=1, help="Users per search; repeatable.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Number of searches; medians are over all of them.")] = 50,
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(kernel.name for kernel in KERNELS)}; repeatable; default: the fastest on this machine."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the vectors.")] = 1,
    as_json: Json = False,
) -> None:
    """Benchmark the exact nearest-neighbour search on one thread, against a naive search, faiss and usearch.

    Examples: streamrec bench topk; streamrec bench topk --items 100000 --users 1 --json;
    streamrec bench topk --kernel int8 --kernel int8-loop
    """
    sizes, together = items or list(ITEMS), users or list(USERS)
    kernels = [_kernel(name) for name in kernel or []]
    with progress_bar() as bar:
        python = peer_python(bar.console.print)
        task = bar.add_task("searches", total=len(sizes) * len(together) * max(1, len(kernels)), rate="")
        rows = list(
            bar.track(measure(sizes, together, python, kernels=kernels, repeats=repeats, seed=seed), task_id=task)
        )
    figures = TopKTimes(machine=machine(), repeats=repeats, rows=rows)
    if as_json:
        print_json(figures)
        return
    table = DataTable(title=f"Exact top-100 ({figures.machine})", title_justify="left")
    for name in TopKTime.__struct_fields__:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in astuple(row)))
    console().print(table)


def _kernel(name: str) -> Kernel:
    for kernel in KERNELS:
        if kernel.name == name:
            return kernel
    raise UsageError(f"unknown kernel {name!r}; choose from {', '.join(kernel.name for kernel in KERNELS)}")
