"""`streamrec eval incremental`: train on each time slice, test on the next."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from msgspec import Struct

from streamrec.adapters.sequence_files import read_sessions
from streamrec.cli.evaluation.settings_file import SettingsFile, read_settings
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.errors import UsageError
from streamrec.evaluation.epochs import use_threads
from streamrec.evaluation.incremental import Incremental, IncrementalSettings, SliceRanks, slices_of
from streamrec.evaluation.metrics import reciprocal_rank
from streamrec.evaluation.significance import confidence_interval


class Period(Struct, kw_only=True):
    """The test on one slice; shares in percent."""

    period: int
    prefixes: int
    items: int
    unseen_events: int
    """Targets that are items never seen before; not scored."""
    recall_at_10: float
    mrr_at_10: float
    recall_at_20: float
    mrr_at_20: float
    model_alone: dict[str, float]
    """The same for the sequence model alone."""


class IncrementalResult(Struct, kw_only=True):
    """Means over the periods, in percent."""

    recall_at_20: float
    mrr_at_20: float
    recall_at_10: float
    mrr_at_10: float
    recall_at_20_interval: tuple[float, float]
    """95 %, by a bootstrap over the sessions of each period."""
    mrr_at_20_interval: tuple[float, float]
    model_alone: dict[str, float]
    periods: list[Period]
    seconds: float
    cpu_seconds: float
    seed: int
    settings: dict[str, Any]


def incremental(
    data: Annotated[Path, typer.Option(help="A file, or its folder, with the columns session_id, item_id, period.")],
    settings: SettingsFile = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Train on each time slice and a bounded replay memory, then predict every next item of the following slice.

    Examples: streamrec eval incremental --data sessions.parquet --json;
    streamrec eval incremental --data folder --settings docs/settings/incremental-diginetica.toml
    """
    result = evaluate_incremental(data, read_settings(settings, IncrementalSettings), seed=seed, threads=threads)
    if as_json:
        print_json(result)
    else:
        console().print(_table(result))


def evaluate_incremental(data: Path, settings: IncrementalSettings, *, seed: int, threads: int) -> IncrementalResult:
    """Run the protocol on a file.

    Raises
    ------
    UsageError
        If the file has no sessions in at least two slices, or a slice nothing to predict.
    """
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    use_threads(threads)
    file = read_sessions(data)
    assert file.periods is not None
    names = np.unique(file.periods)
    if len(names) < 2:
        raise UsageError(f"{file.path}: needs at least two time slices: testing starts with the second")
    times_s = None if file.times_ms is None or not settings.timed else file.times_ms / 1000.0
    slices = slices_of(file.groups, file.items + 1, file.periods, times_s)
    run = Incremental(slices, settings, seed=seed)
    ranks: list[SliceRanks] = []
    with progress_bar() as bar:
        task = bar.add_task("slices", total=float(len(slices) - 1), rate="")
        for tested in run.play(on_step=lambda share: bar.update(task, completed=len(ranks) + share)):
            if not len(tested.listed):
                raise UsageError(f"{file.path}: slice {names[len(ranks) + 1]} has no session with two known items")
            ranks.append(tested)
            period = _period(int(names[len(ranks)]), tested)
            bar.console.print(f"{period.period}: R@20 {period.recall_at_20:.2f}, MRR@20 {period.mrr_at_20:.2f}")
    took_s = time.monotonic() - started_s, time.process_time() - started_cpu_s
    return _result([int(name) for name in names[1:]], ranks, settings, seed, took_s)


def _result(
    names: list[int], ranks: list[SliceRanks], settings: IncrementalSettings, seed: int, took_s: tuple[float, float]
) -> IncrementalResult:
    periods = [_period(name, tested) for name, tested in zip(names, ranks, strict=True)]
    sessions = [tested.sessions for tested in ranks]
    hits = [100.0 * (tested.listed < 20) for tested in ranks]
    gains = [100.0 * reciprocal_rank(tested.listed, 20) for tested in ranks]
    return IncrementalResult(
        recall_at_20=_mean(period.recall_at_20 for period in periods),
        mrr_at_20=_mean(period.mrr_at_20 for period in periods),
        recall_at_10=_mean(period.recall_at_10 for period in periods),
        mrr_at_10=_mean(period.mrr_at_10 for period in periods),
        recall_at_20_interval=confidence_interval(hits, sessions, seed=seed),
        mrr_at_20_interval=confidence_interval(gains, sessions, seed=seed),
        model_alone={name: _mean(period.model_alone[name] for period in periods) for name in periods[0].model_alone},
        periods=periods,
        seconds=round(took_s[0], 1),
        cpu_seconds=round(took_s[1], 1),
        seed=seed,
        settings=asdict(settings),
    )


def _period(name: int, tested: SliceRanks) -> Period:
    alone = tested.model_alone
    return Period(
        period=name,
        prefixes=len(tested.listed),
        items=tested.items,
        unseen_events=tested.unseen,
        recall_at_10=_percent(tested.listed < 10),
        mrr_at_10=_percent(reciprocal_rank(tested.listed, 10)),
        recall_at_20=_percent(tested.listed < 20),
        mrr_at_20=_percent(reciprocal_rank(tested.listed, 20)),
        model_alone={"recall_at_20": _percent(alone < 20), "mrr_at_20": _percent(reciprocal_rank(alone, 20))},
    )


def _percent(values: np.ndarray) -> float:
    return round(100.0 * float(values.mean()), 3) if len(values) else 0.0


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 3)


def _table(result: IncrementalResult) -> DataTable:
    table = DataTable("period", "prefixes", "R@10", "R@20", "MRR@20", title="percent")
    for period in result.periods:
        figures = (period.recall_at_10, period.recall_at_20, period.mrr_at_20)
        table.add_row(str(period.period), f"{period.prefixes:,}", *(f"{figure:.2f}" for figure in figures))
    table.add_section()
    table.add_row("mean", "", f"{result.recall_at_10:.2f}", f"{result.recall_at_20:.2f}", f"{result.mrr_at_20:.2f}")
    return table
