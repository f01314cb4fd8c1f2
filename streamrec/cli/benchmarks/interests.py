"""`streamrec bench interests`: events/s folded by one process, compared with other stream processors."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from msgspec import Struct

from streamrec.bench.interests import GUARANTEES, OWN, measure
from streamrec.bench.peer_environment import peer_python
from streamrec.bench.population import Population
from streamrec.cli.benchmarks.machine import machine
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.local import local_stack
from streamrec.settings import Settings

ITEMS = 46_000


class InterestSpeed(Struct, kw_only=True):
    """Events/s folded by one process; medians over the runs, all with the same fold and broker."""

    machine: str
    events: int
    users: int
    runs: int
    events_per_s: float
    peers: dict[str, float]
    spread_events_per_s: dict[str, tuple[float, float]]
    """The lowest and the highest run."""
    guarantees: dict[str, str]


def interests(
    events: Annotated[int, typer.Option(min=100, help="Backlog of clicks on the broker.")] = 200_000,
    mean_history: Annotated[float, typer.Option(min=1, help="Average number of clicks per user at the end.")] = 9.0,
    runs: Annotated[int, typer.Option(min=1, help="Number of runs, each on fresh servers.")] = 3,
    seed: Annotated[int, typer.Option(help="Random seed of the clicks.")] = 1,
    as_json: Json = False,
) -> None:
    """Compare the interests worker with a Faust Table, Quix Streams and Bytewax on the same events.

    Of these, only the second Quix Streams program publishes each new state, too. The last two are installed into a
    separate environment in the user's cache.

    Examples: streamrec bench interests; streamrec bench interests --events 50000 --runs 1 --json
    """
    population = Population(max(1, round(events / mean_history)), ITEMS, mean_history, full_histories=False, seed=seed)
    names = list(GUARANTEES)
    found: dict[str, list[float]] = {name: [] for name in names}
    with progress_bar() as bar:
        peer_python(bar.console.print)
        task = bar.add_task("processes", total=runs * len(names), rate="")
        for run in range(runs):
            turn = run % len(names)  # the first on a fresh broker differs between runs
            with TemporaryDirectory(prefix="streamrec-bench-") as directory:
                settings = Settings.for_own_servers(data_dir=Path(directory))
                with local_stack(settings, progress=True) as stack:
                    for name, events_per_s in measure(stack, population, events, names[turn:] + names[:turn]):
                        found[name].append(events_per_s)
                        bar.update(task, advance=1, rate=f"{name}: {events_per_s:,.0f} events/s")
    speeds = {name: round(median(each)) for name, each in found.items()}
    figures = InterestSpeed(
        machine=machine(),
        events=events,
        users=population.users,
        runs=runs,
        events_per_s=speeds[OWN],
        peers={name: speed for name, speed in speeds.items() if name != OWN},
        spread_events_per_s={name: (round(min(each)), round(max(each))) for name, each in found.items()},
        guarantees=GUARANTEES,
    )
    if as_json:
        print_json(figures)
    else:
        console().print(_table(figures))


def _table(figures: InterestSpeed) -> DataTable:
    table = DataTable(title=f"{figures.events:,} clicks into interest states ({figures.machine})", title_justify="left")
    table.add_column("")
    table.add_column("events/s", justify="right")
    table.add_column("lowest and highest", justify="right")
    table.add_column("guarantees")
    for name, speed in {OWN: figures.events_per_s, **figures.peers}.items():
        low, high = figures.spread_events_per_s[name]
        table.add_row(name, f"{speed:,.0f}", f"{low:,.0f} to {high:,.0f}", figures.guarantees[name])
    return table
