"""`streamrec eval tune`: better settings for a stream, found on its first part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

from streamrec.adapters.event_files import EventFile
from streamrec.cli.evaluation.prequential import UNSCORED_SHARE, read_stream, run_alone
from streamrec.cli.event_source import Data, EventSource, reads_events
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar, say
from streamrec.contracts.incoming import Item
from streamrec.domain.event import Event
from streamrec.environment import variable_name
from streamrec.errors import UsageError
from streamrec.evaluation.ablation import Outcome, worth
from streamrec.evaluation.metrics import ndcg
from streamrec.evaluation.prequential import Prequential
from streamrec.settings import Settings

if TYPE_CHECKING:
    from streamrec.evaluation.tuning import Check, Trial, Values

COMPARED_AT = 8
"""Number of points at which a trial is compared with earlier ones."""


class TriedSettings(Struct, kw_only=True):
    """A trial."""

    settings: dict[str, Any]
    ndcg_at_10: float | None
    """`None` if it ended early, being worse than the median."""


class TuneResult(Struct, kw_only=True):
    """The best of several settings, on the part of the stream that `prequential` does not score."""

    rows: int
    events: int
    """Number of events that each trial was scored on."""
    settings: dict[str, str]
    """The best settings, by variable."""
    ndcg_at_10: float
    gain: float
    """Change of NDCG@10 relative to the current settings."""
    gain_interval: tuple[float, float]
    """95 % interval by a bootstrap over users, paired by event. It does not account for the choice among trials."""
    is_better: bool
    """Whether the interval is above zero. If not, `settings` are the current ones."""
    trials: list[TriedSettings]
    seed: int


@reads_events(Data)
def tune(
    source: EventSource,
    trials: Annotated[int, typer.Option(min=2, help="Number of settings to try.")] = 30,
    limit: Annotated[
        int | None, typer.Option(min=10, help="Rows; the first fifth of the file if not given, and at most.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Write the settings into this file of variables.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    as_json: Json = False,
) -> None:
    """Find settings that rank better, on the part of a stream that `prequential` learns without scoring.

    Tries widths, lengths of sequences, micro-batches and channels. The current settings remain unless others are better
    beyond chance. Score what was found with `streamrec eval prequential`, which scores the other events.

    Examples: streamrec eval tune --data events.parquet --trials 50 --write tuned.env;
    set -a; . ./tuned.env; streamrec eval prequential --data events.parquet
    """
    _check(write)
    file = source.open()
    result = tune_on(file, Settings.from_env(), trials=trials, limit=limit, seed=seed)
    if write is not None:
        lines = [f"{name}={value}" for name, value in result.settings.items()]
        write.write_text("\n".join([f"# streamrec eval tune --data {source.path}", *lines, ""]))
    if as_json:
        print_json(result)
        return
    console().print(_table(result))
    if write is not None:
        say(f"written to {write}")


def tune_on(file: EventFile, settings: Settings, *, trials: int, limit: int | None, seed: int) -> TuneResult:
    """Try settings on the first part of a file."""
    from streamrec.evaluation.tuning import CHOICES, tune  # noqa: PLC0415  # an extra

    # at most the part that other evaluations do not score
    rows = min(int(UNSCORED_SHARE * file.rows), limit or file.rows)
    items, events = read_stream(file, rows)
    current = settings.model_dump(include={*CHOICES, "channels"})
    with progress_bar() as bar:
        task = bar.add_task("events", total=trials * len(events), rate="")

        def play(values: Values, check: Check) -> Outcome:
            changed = Settings(**settings.model_dump() | values)
            return _play(changed, items, bar.track(events, task_id=task), len(events), check, seed)

        tried: list[Trial] = []
        for trial in tune(current, play, trials=trials, seed=seed):
            if not tried and not trial.hits:
                raise UsageError(f"{file.path}: too few events: no list of the current settings has an item right")
            tried.append(trial)
            bar.update(task, completed=len(tried) * len(events))  # also of a trial that ended early
    return _result(tried, rows, seed)


def _play(
    settings: Settings, items: list[Item], events: Iterable[Event], total: int, check: Check, seed: int
) -> Outcome:
    unscored = int(UNSCORED_SHARE * total)
    with TemporaryDirectory() as directory:
        run = run_alone(settings, Path(directory), items, seed)
        run.play(_compared(events, run, check, unscored, total), unscored=unscored, total=total)
    return Outcome.of(run)


def _compared(events: Iterable[Event], run: Prequential, check: Check, unscored: int, total: int) -> Iterator[Event]:
    """Yield events, and check the scores so far at several of them."""
    points = {unscored + part * (total - unscored) // COMPARED_AT: part for part in range(1, COMPARED_AT)}
    for place, event in enumerate(events):
        if place in points and len(run.scores):
            check(points[place], float(ndcg(run.scores.ranks[:, 0]).mean()))
        yield event


def _result(tried: Sequence[Trial], rows: int, seed: int) -> TuneResult:
    first, best = tried[0], max(tried, key=lambda trial: trial.ndcg)
    assert first.outcome is not None, "it is compared with nothing"
    assert best.outcome is not None, "it is at least as good as the first one"
    gained = worth("best", best.outcome, first.outcome, seed=seed)
    is_better = gained.gain_interval[0] > 0
    chosen = best if is_better else first
    return TuneResult(
        rows=rows,
        events=len(first.outcome.ranks),
        settings={variable_name(name): str(value) for name, value in sorted(chosen.values.items())},
        ndcg_at_10=gained.ndcg_at_10,
        gain=gained.gain,
        gain_interval=gained.gain_interval,
        is_better=is_better,
        trials=[
            TriedSettings(settings=trial.values, ndcg_at_10=round(trial.ndcg, 5) if trial.outcome else None)
            for trial in tried
        ],
        seed=seed,
    )


def _table(result: TuneResult) -> DataTable:
    table = DataTable("setting", "value", title=f"{len(result.trials)} trials on {result.events:,} events")
    for name, value in result.settings.items():
        table.add_row(name, value)
    low, high = result.gain_interval
    found = f"NDCG@10 of the best trial {result.ndcg_at_10:.4f}, {result.gain:+.1%} (95 %: {low:+.1%} to {high:+.1%})"
    table.caption = found if result.is_better else f"{found}: no better beyond chance, the current settings remain"
    return table


def _check(write: Path | None) -> None:
    """Check before a long search that it can run, and that its result can be written."""
    if find_spec("optuna") is None:
        raise UsageError("eval tune needs optuna: install streamrec[eval]")
    if write is not None and not write.parent.is_dir():
        raise UsageError(f"{write}: no such folder")
