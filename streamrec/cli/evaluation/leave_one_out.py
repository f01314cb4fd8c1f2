"""`streamrec eval leave-one-out`: each user's last item, ranked among all items."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from msgspec import Struct

from streamrec.adapters.sequence_files import read_users
from streamrec.cli.evaluation.settings_file import SettingsFile, read_settings
from streamrec.cli.output import Json, console, print_json, progress_bar
from streamrec.errors import UsageError
from streamrec.evaluation.epochs import use_threads
from streamrec.evaluation.leave_one_out import LeaveOneOut, LeaveOneOutRanks, LeaveOneOutSettings
from streamrec.evaluation.metrics import CUTOFF, ndcg
from streamrec.evaluation.sequences import from_groups
from streamrec.evaluation.significance import confidence_interval


class LeaveOneOutResult(Struct, kw_only=True):
    """Metrics over the users' last items."""

    users: int
    items: int
    hr_at_10: float
    ndcg_at_10: float
    hr_at_10_interval: tuple[float, float]
    """95 %, by a bootstrap over users."""
    ndcg_at_10_interval: tuple[float, float]
    model_alone: dict[str, float]
    """The same for the sequence model alone."""
    epochs: int
    """Epoch with the best validation score."""
    repeated: int
    """Users whose last item they had seen before; counted as misses."""
    seconds: float
    cpu_seconds: float
    seed: int
    settings: dict[str, Any]


def leave_one_out(
    data: Annotated[Path, typer.Option(help="A file, or its folder: events, sequences, or one line per user.")],
    settings: SettingsFile = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Train on all but each user's last two items, validate on the second last, and rank all unseen items for the last.

    Examples: streamrec eval leave-one-out --data events.parquet --json;
    streamrec eval leave-one-out --data ml1m --settings docs/settings/leave-one-out-ml1m.toml --threads 2
    """
    result = evaluate_leave_one_out(data, read_settings(settings, LeaveOneOutSettings), seed=seed, threads=threads)
    if as_json:
        print_json(result)
    else:
        console().print(f"HR@10 {result.hr_at_10:.4f}, NDCG@10 {result.ndcg_at_10:.4f} of {result.users:,} users")


def evaluate_leave_one_out(data: Path, settings: LeaveOneOutSettings, *, seed: int, threads: int) -> LeaveOneOutResult:
    """Run the protocol on a file.

    Raises
    ------
    UsageError
        If the file is not one of sequences, or no user has three events.
    """
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    use_threads(threads)
    file = read_users(data)
    times_s = None if file.times_ms is None or not settings.timed else file.times_ms / 1000.0
    sequences, _ = from_groups(file.groups, file.items + 1, times_s)
    if not (sequences.lengths >= 3).any():
        raise UsageError(f"{file.path}: no user has the three events needed to train, validate and test")
    run = LeaveOneOut(sequences, settings, seed=seed)
    with progress_bar() as bar:
        task = bar.add_task("training", total=1.0, rate="")
        ranks = run.run(report=bar.console.print, on_step=lambda share: bar.update(task, completed=share))
    return _result(
        ranks, len(file.item_ids), settings, seed, (time.monotonic() - started_s, time.process_time() - started_cpu_s)
    )


def _result(
    ranks: LeaveOneOutRanks, items: int, settings: LeaveOneOutSettings, seed: int, took_s: tuple[float, float]
) -> LeaveOneOutResult:
    hits, gains = (ranks.listed < CUTOFF).astype(np.float64), ndcg(ranks.listed)
    return LeaveOneOutResult(
        users=len(hits),
        items=items,
        hr_at_10=round(float(hits.mean()), 5),
        ndcg_at_10=round(float(gains.mean()), 5),
        hr_at_10_interval=confidence_interval([hits], seed=seed),
        ndcg_at_10_interval=confidence_interval([gains], seed=seed),
        model_alone={
            "hr_at_10": round(float((ranks.model_alone < CUTOFF).mean()), 5),
            "ndcg_at_10": round(float(ndcg(ranks.model_alone).mean()), 5),
        },
        epochs=ranks.epochs,
        repeated=ranks.repeated,
        seconds=round(took_s[0], 1),
        cpu_seconds=round(took_s[1], 1),
        seed=seed,
        settings=asdict(settings),
    )
