"""`streamrec eval ablation`: the contribution of each part of the model on a stream."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import psutil
import typer
from msgspec import Struct

from streamrec import logs
from streamrec.adapters.event_files import EventFile
from streamrec.cli.evaluation.prequential import UNSCORED_SHARE, read_stream, run_alone
from streamrec.cli.event_source import Data, EventSource, reads_events
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.errors import UsageError
from streamrec.evaluation.ablation import UNCHANGED, VARIANTS, Outcome, Worth, worth
from streamrec.settings import Settings


class AblationResult(Struct, kw_only=True):
    """Results of the variants on the same events."""

    rows: int
    """Rows from the start of the file: the tuning part, unless a limit was given."""
    events: int
    """Number of scored events."""
    variants: list[Worth]
    seed: int


@reads_events(Data)
def ablation(
    source: EventSource,
    limit: Annotated[int | None, typer.Option(min=10, help="Rows; the first fifth of the file if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    as_json: Json = False,
) -> None:
    """Replay the first part of a stream without one part of the model at a time.

    Scores the part of the stream that `prequential` reserves for tuning. Uses one process per CPU.

    Example: streamrec eval ablation --data events.parquet --limit 25000 --json
    """
    file = source.open()
    rows = int(UNSCORED_SHARE * file.rows) if limit is None else min(limit, file.rows)
    outcomes = _play_all(source, rows, seed)
    as_it_is = outcomes[UNCHANGED]
    if not len(as_it_is.ranks):
        raise UsageError(f"{file.path}: too few events to score any")
    result = AblationResult(
        rows=rows,
        events=len(as_it_is.ranks),
        variants=[worth(name, outcomes[name], as_it_is, seed=seed) for name in VARIANTS],
        seed=seed,
    )
    if as_json:
        print_json(result)
    else:
        console().print(_table(result))


def _play_all(source: EventSource, rows: int, seed: int) -> dict[str, Outcome]:
    processors = len(psutil.Process().cpu_affinity() or [0])
    with ThreadPoolExecutor(processors) as pool, progress_bar() as bar:
        task = bar.add_task("variants", total=len(VARIANTS), rate="")
        running = {pool.submit(_play_apart, name, source, rows, seed): name for name in VARIANTS}
        outcomes = {}
        for done in as_completed(running):
            outcomes[running[done]] = done.result()
            bar.update(task, advance=1)
    return outcomes


def _play_apart(name: str, source: EventSource, rows: int, seed: int) -> Outcome:
    """Play one variant in a separate process, since it patches the code."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=logs.configure_command) as process:
        return process.submit(_play, name, source, rows, seed).result()


def _play(name: str, source: EventSource, rows: int, seed: int) -> Outcome:
    """Play one variant, without baselines."""
    settings, variant = Settings.from_env(), VARIANTS[name]
    for change in variant.changes:
        change()
    items, events = read_stream(EventFile.open(source.path, source.options), rows)
    with TemporaryDirectory() as directory:
        run = run_alone(settings, Path(directory), items, seed, variant.shape)
        run.play(events, unscored=int(UNSCORED_SHARE * len(events)), total=len(events))
    return Outcome.of(run)


def _table(result: AblationResult) -> DataTable:
    table = DataTable("", "NDCG@10", "change", "95 %", title=f"{result.events:,} events scored")
    for row in result.variants:
        low, high = row.gain_interval
        table.add_row(row.variant, f"{row.ndcg_at_10:.4f}", f"{row.gain:+.1%}", f"{low:+.1%} to {high:+.1%}")
    return table
