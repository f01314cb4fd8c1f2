"""`streamrec chaos`: injects faults and verifies that nothing was lost, duplicated or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Annotated, TypeVar

import typer
from msgspec import Struct

from streamrec.chaos import outage as outages
from streamrec.chaos import poison as poisoning
from streamrec.chaos import soak as soaking
from streamrec.chaos.experiment import Outcome, Plan, run
from streamrec.chaos.faults import Kind
from streamrec.cli.output import DataConsole, Json, console, print_json, progress_bar
from streamrec.errors import UsageError

app = typer.Typer(add_completion=False, help="Inject faults, and verify that nothing is lost or duplicated.")

Figures = TypeVar("Figures")
Rate = Annotated[float, typer.Option(min=1, help="Events per second.")]


class ChaosFigures(Struct, kw_only=True):
    """Totals over all runs."""

    runs: int
    events: int
    missing: int
    extra: int
    state_mismatches: int
    kills: dict[str, int]
    duplicates: int
    longest_stall_s: float
    recovery_p50_s: float
    recovery_p95_s: float
    recovery_by_kind_s: dict[str, list[float]]
    """Shortest and longest."""
    notes: list[str]


@app.callback(invoke_without_command=True)
def chaos(
    context: typer.Context,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs; each has a seed for its faults.")] = 3,
    events: Annotated[int, typer.Option(min=1, help="Events per run.")] = 20_000,
    rate: Rate = 500.0,
    first_seed: Annotated[int, typer.Option(help="First seed, to repeat a run.")] = 1,
    as_json: Json = False,
) -> None:
    """Kill workers, broker and stores while events flow, then compare everything stored with a pure fold of the log.

    Every run starts its own servers. The exit code is 0 only if nothing is missing, extra or different.

    Examples: streamrec chaos --seeds 20 --events 20000 --json; streamrec chaos outage redis; streamrec chaos soak
    """
    if context.invoked_subcommand is not None:
        return
    outcomes: dict[int, Outcome] = {}
    with progress_bar() as bar:
        task = bar.add_task("chaos", total=seeds, rate="")
        for seed in range(first_seed, first_seed + seeds):
            with TemporaryDirectory(prefix="streamrec-chaos-") as directory:
                outcomes[seed] = run(Plan(seed, events, rate), Path(directory))
            bar.update(task, advance=1, rate=f"seed {seed}: {'clean' if outcomes[seed].verdict.clean else 'NOT CLEAN'}")
    figures = _summarise(outcomes, events)
    _show(figures, as_json=as_json)
    raise typer.Exit(0 if all(outcome.verdict.clean for outcome in outcomes.values()) else 1)


@app.command()
def outage(
    server: Annotated[str, typer.Argument(help=f"The server: {', '.join(outages.SERVERS)}.")],
    seconds: Annotated[float, typer.Option(min=1, help="Length of the outage.")] = 30.0,
    rate: Rate = 500.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds of load before the outage.")] = 20.0,
    as_json: Json = False,
) -> None:
    """Simulate a server outage under load and verify recovery.

    The exit code is 0 only if nothing is missing, extra or different, no worker exited, and the workers that use the
    server grew by less than 50 MB and caught up within 60 seconds of its return.

    Example: streamrec chaos outage redis --seconds 30 --rate 500 --json
    """
    if server not in outages.SERVERS:
        raise UsageError(f"unknown server {server!r}; choose from {', '.join(outages.SERVERS)}")
    figures = _in_a_directory(
        f"{server} away",
        lambda directory: outages.run(server, away_s=seconds, rate=rate, warm_s=warm_up, directory=directory),
    )
    _show(figures, as_json=as_json)
    raise typer.Exit(0 if figures.passed else 1)


@app.command()
def poison(
    events: Annotated[int, typer.Option(min=5_000, help="Good events per round.")] = 40_000,
    share: Annotated[float, typer.Option(min=0.0, max=0.3, help="Bad records per good event.")] = 0.01,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds with bad records, and as many without.")] = 3,
    as_json: Json = False,
) -> None:
    """Fold events with and without bad records among them, and compare dead letters and throughput.

    The exit code is 0 only if every bad record became a dead letter with the right reason, and the throughput of good
    events fell by at most a tenth.

    Example: streamrec chaos poison --events 40000 --share 0.01 --json
    """
    figures = _in_a_directory(
        "poison",
        lambda directory: poisoning.run(events=events, poison_share=share, rounds=rounds, directory=directory),
    )
    _show(figures, as_json=as_json)
    raise typer.Exit(0 if figures.passed else 1)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.2, help="Length of the run.")] = 60.0,
    rate: Rate = 500.0,
    as_json: Json = False,
) -> None:
    """Run at a steady rate and verify that memory, file descriptors and lag of the workers stay flat.

    The first third is warm-up. The exit code is 0 only if nothing is missing, extra or different, no worker exited, and
    after the warm-up no worker's least-squares trend grew by 50 MB, 5 file descriptors or 2 seconds of lag.

    Example: streamrec chaos soak --minutes 60 --rate 500 --json
    """
    figures = _in_a_directory(
        f"soak of {minutes:g} minutes",
        lambda directory: soaking.run(minutes=minutes, rate=rate, directory=directory),
    )
    _show(figures, as_json=as_json)
    raise typer.Exit(0 if figures.passed else 1)


def _in_a_directory(what: str, work: Callable[[Path], Figures]) -> Figures:
    """Run on temporary servers."""
    with TemporaryDirectory(prefix="streamrec-chaos-") as directory, DataConsole(stderr=True).status(what):
        return work(Path(directory))


def _show(figures: Struct, *, as_json: bool) -> None:
    if as_json:
        print_json(figures)
        return
    for name in figures.__struct_fields__:
        console().print(f"{name}: {getattr(figures, name)}")


def _summarise(outcomes: Mapping[int, Outcome], events: int) -> ChaosFigures:
    recoveries = [each for outcome in outcomes.values() for each in outcome.recoveries]
    seconds = [recovery_s for _, recovery_s in recoveries]
    percentiles = quantiles(seconds, n=20) if len(seconds) > 1 else [*seconds, 0.0] * 19
    by_kind = {kind: [recovery_s for fault, recovery_s in recoveries if fault.kind is kind] for kind in Kind}
    return ChaosFigures(
        runs=len(outcomes),
        events=events,
        missing=sum(outcome.verdict.missing for outcome in outcomes.values()),
        extra=sum(outcome.verdict.extra for outcome in outcomes.values()),
        state_mismatches=sum(outcome.verdict.state_mismatches for outcome in outcomes.values()),
        kills={kind: len(each) for kind, each in by_kind.items() if each},
        duplicates=sum(outcome.duplicates for outcome in outcomes.values()),
        longest_stall_s=round(max(outcome.longest_stall_s for outcome in outcomes.values()), 1),
        recovery_p50_s=round(percentiles[9], 1),
        recovery_p95_s=round(percentiles[18], 1),
        recovery_by_kind_s={kind: [round(min(each), 1), round(max(each), 1)] for kind, each in by_kind.items() if each},
        notes=[f"seed {seed}: {note}" for seed, outcome in outcomes.items() for note in outcome.verdict.notes],
    )
