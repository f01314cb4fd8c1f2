"""`streamrec bench rate`: the highest click rate that this machine sustains, compared with another build."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from msgspec import Struct

from streamrec.bench.rate import OWN_BUILD, Run, highest_rates, run_build
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar

NOW, BEFORE = "now", "before"


class Rate(Struct, kw_only=True):
    """Rates in clicks/s; ratios to the other build are medians over the runs, `null` without one."""

    machine: str
    users: int
    items: int
    rate: float
    """Highest rate sustained."""
    rate_before: float | None
    rate_ratio: float | None
    rate_compared: float
    """Half of the highest rate of the other build, or of this one: delays and CPU time are measured there."""
    p50_ms: dict[str, float]
    """Click to list in Redis at that rate, by build."""
    p99_ms: dict[str, float]
    p50_ratio: float | None
    p99_ratio: float | None
    recall_cpu_ratio: float | None
    """CPU time per click in `recall`."""
    interests_cpu_ratio: float | None
    floor_p50_ms: float
    """The same clicks over two no-op hops."""
    spread: dict[str, tuple[float, float]]
    """Lowest and highest of the runs, by ratio."""
    cpu: dict[str, dict[str, float]]
    """CPU time per click of each process, milliseconds, by build."""


def rate(  # noqa: PLR0913, PLR0917  # options of a command
    against: Annotated[Path | None, typer.Option(help="Directory of another build, to compare in turns.")] = None,
    first: Annotated[float, typer.Option(min=1, help="Rate to try first, clicks per second.")] = 800.0,
    p99_ms: Annotated[float, typer.Option("--p99-ms", min=1, help="Maximum latency of 99 of 100 clicks.")] = 1_000.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long the highest rate has to be sustained.")] = 300.0,
    trial_seconds: Annotated[float, typer.Option(min=1, help="Length of the other runs.")] = 45.0,
    precision: Annotated[float, typer.Option(min=1.01, help="Ratio of a rate that fails to one that holds.")] = 1.05,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each build at the compared rate.")] = 3,
    users: Annotated[int, typer.Option(min=1, help="Users with a history.")] = 300_000,
    items: Annotated[int, typer.Option(min=200, help="Items that the model knows.")] = 46_000,
    seed: Annotated[int, typer.Option(help="Random seed of histories, arrivals and clicks.")] = 1,
    as_json: Json = False,
) -> None:
    """Find the highest click rate for which lists are ready in time, by bisection, and compare it with another build.

    Each run starts servers and workers of its own, so this takes most of an hour, and twice that with two builds.

    Examples: streamrec bench rate; git worktree add ../before v0.1 && streamrec bench rate --against ../before --json
    """
    options = {"users": users, "items": items, "seed": seed}
    with progress_bar() as bar:
        task = bar.add_task("runs", total=None, rate="")

        def run_of(name: str, path: Path, at_rate: float, run_s: float) -> Run:
            bar.update(task, rate=f"{name}: {at_rate:,.0f} clicks/s")
            run = run_build(path, round(at_rate, 1), run_s, options)
            bar.update(task, advance=1)
            return run

        paths = {BEFORE: against.resolve(), NOW: OWN_BUILD} if against else {NOW: OWN_BUILD}
        builds = {name: partial(run_of, name, path) for name, path in paths.items()}
        highest = highest_rates(
            builds, first=first, precision=precision, p99_ms=p99_ms, trial_s=trial_seconds, final_s=seconds
        )
        compared = max(1.0, highest.get(BEFORE, highest[NOW]) / 2)
        found: dict[str, list[Run]] = {name: [] for name in builds}
        for _ in range(runs):
            for name, run in builds.items():
                found[name].append(run(compared, trial_seconds))
    figures = _figures(highest, found, compared, users=users, items=items)
    if as_json:
        print_json(figures)
    else:
        console().print(_table(figures))


def _figures(
    highest: dict[str, float], found: dict[str, list[Run]], compared: float, *, users: int, items: int
) -> Rate:
    before = highest.get(BEFORE)
    ratios = {
        "p50_ratio": _ratios(found, lambda run: run.p50_ms),
        "p99_ratio": _ratios(found, lambda run: run.p99_ms),
        "recall_cpu_ratio": _ratios(found, lambda run: run.cpu["recall"]),
        "interests_cpu_ratio": _ratios(found, lambda run: run.cpu["interests"]),
    }
    return Rate(
        machine=machine(),
        users=users,
        items=items,
        rate=round(highest[NOW], 1),
        rate_before=None if before is None else round(before, 1),
        rate_ratio=round(highest[NOW] / before, 2) if before else None,
        rate_compared=round(compared, 1),
        p50_ms={name: round(median(run.p50_ms for run in runs), 2) for name, runs in found.items()},
        p99_ms={name: round(median(run.p99_ms for run in runs), 2) for name, runs in found.items()},
        **{name: round(median(each), 2) if each else None for name, each in ratios.items()},
        floor_p50_ms=round(median(run.floor_p50_ms for runs in found.values() for run in runs), 2),
        spread={name: (round(min(each), 2), round(max(each), 2)) for name, each in ratios.items() if each},
        cpu={
            name: {process: round(median(run.cpu[process] for run in runs), 3) for process in runs[0].cpu}
            for name, runs in found.items()
        },
    )


def _ratios(found: dict[str, list[Run]], value: Callable[[Run], float]) -> list[float]:
    """Return the ratio of each pair of runs."""
    pairs = zip(found[NOW], found.get(BEFORE, []), strict=False)
    return [value(now) / value(before) for now, before in pairs]


def _table(figures: Rate) -> DataTable:
    table = DataTable(title=f"Highest click rate ({figures.machine})", title_justify="left")
    table.add_column("")
    for name in figures.cpu:
        table.add_column(name, justify="right")
    rates = {NOW: figures.rate, BEFORE: figures.rate_before}
    table.add_row("clicks/s", *(f"{rates[name]:,.0f}" for name in figures.cpu))
    table.add_row("click to list p50, ms", *(f"{each:,.1f}" for each in figures.p50_ms.values()))
    table.add_row("click to list p99, ms", *(f"{each:,.1f}" for each in figures.p99_ms.values()))
    for process in figures.cpu[NOW]:
        table.add_row(f"{process}, CPU ms a click", *(f"{each.get(process, 0):.2f}" for each in figures.cpu.values()))
    table.caption = (
        f"delays and CPU time at {figures.rate_compared:,.0f} clicks/s, where two no-op hops take "
        f"{figures.floor_p50_ms:.1f} ms"
    )
    return table
