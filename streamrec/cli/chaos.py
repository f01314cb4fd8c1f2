"""`streamrec chaos`: kills everything on purpose and says whether anything was lost, doubled or changed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from msgspec import Struct

from streamrec.chaos.experiment import Outcome, run
from streamrec.cli.output import Json, console, print_json, progress_bar


class ChaosFigures(Struct, kw_only=True):
    """What all runs showed together."""

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
    notes: list[str]


def chaos(
    seeds: Annotated[int, typer.Option(min=1, help="Runs; each seed has a schedule of its own.")] = 3,
    events: Annotated[int, typer.Option(min=1, help="Events of a run.")] = 20_000,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 500.0,
    first_seed: Annotated[int, typer.Option(help="The first seed, to see one run again.")] = 1,
    as_json: Json = False,
) -> None:
    """Kill workers, broker and stores while events flow, then compare all stores with a pure fold of the log.

    Every run has servers of its own. The exit code is 0 only if nothing is missing, extra or different.

    Example: streamrec chaos --seeds 20 --events 20000 --json
    """
    outcomes: list[Outcome] = []
    with progress_bar() as bar:
        task = bar.add_task("chaos", total=seeds, rate="")
        for seed in range(first_seed, first_seed + seeds):
            with TemporaryDirectory(prefix="streamrec-chaos-") as directory:
                outcomes.append(run(seed, events=events, rate=rate, directory=Path(directory)))
            bar.update(task, advance=1, rate=f"seed {seed}: {'clean' if outcomes[-1].verdict.clean else 'NOT CLEAN'}")
    figures = _summarise(outcomes, events)
    if as_json:
        print_json(figures)
    else:
        for name in figures.__struct_fields__:
            console().print(f"{name}: {getattr(figures, name)}")
    raise typer.Exit(0 if all(outcome.verdict.clean for outcome in outcomes) else 1)


def _summarise(outcomes: list[Outcome], events: int) -> ChaosFigures:
    recoveries_s = [each for outcome in outcomes for each in outcome.recoveries_s]
    percentiles = quantiles(recoveries_s, n=20) if len(recoveries_s) > 1 else [*recoveries_s, 0.0] * 19
    kills = sum((outcome.kills for outcome in outcomes), Counter[str]())
    return ChaosFigures(
        runs=len(outcomes),
        events=events,
        missing=sum(outcome.verdict.missing for outcome in outcomes),
        extra=sum(outcome.verdict.extra for outcome in outcomes),
        state_mismatches=sum(outcome.verdict.state_mismatches for outcome in outcomes),
        kills=dict(kills),
        duplicates=sum(outcome.duplicates for outcome in outcomes),
        longest_stall_s=round(max(outcome.longest_stall_s for outcome in outcomes), 1),
        recovery_p50_s=round(percentiles[9], 1),
        recovery_p95_s=round(percentiles[18], 1),
        notes=[note for outcome in outcomes for note in outcome.verdict.notes],
    )
