"""`streamrec eval prequential`: ranking quality on a stream, event by event."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Annotated, Any

import typer

from streamrec.adapters.event_files import EventFile, read_items
from streamrec.cli.evaluation.plot import check_plot, plot_windows
from streamrec.cli.event_source import Data, EventSource, reads_events, say_what_became
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.contracts.decode import decode_event
from streamrec.contracts.event_time import MAX_EVENT_TIME_MS
from streamrec.contracts.incoming import Click, Feedback, Item, Purchase
from streamrec.domain.event import Event
from streamrec.errors import UsageError
from streamrec.evaluation.baselines.categories import PopularInCategories
from streamrec.evaluation.baselines.factorization import MatrixFactorization
from streamrec.evaluation.baselines.frozen import Frozen
from streamrec.evaluation.baselines.neighbours import SessionNeighbours
from streamrec.evaluation.baselines.popularity import RecentPopularity
from streamrec.evaluation.baselines.retrained import Retrained
from streamrec.evaluation.prequential import Prequential, one_cpu_thread
from streamrec.evaluation.summary import PrequentialResult, summarize
from streamrec.model.network.config import ModelConfig
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.training.online_model import OnlineModel
from streamrec.model.training.rules import Rules
from streamrec.model.training.trainer import Trainer
from streamrec.playback.records import event_record
from streamrec.settings import Settings

UNSCORED_SHARE = 0.2
"""The first fifth of a stream is for tuning and is not scored."""


@reads_events(Data)
def prequential(
    source: EventSource,
    limit: Annotated[int | None, typer.Option(min=10, help="Stop after this many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    hide_seen: Annotated[
        bool | None, typer.Option("--hide-seen/--show-seen", help="Overrides STREAMREC_HIDE_SEEN.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Plot NDCG@10 over time into this PNG file; needs the extra `eval`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recommend, score, then learn, event by event; the first fifth is learned without being scored.

    Compared on the same events, under the same rule for repeats: recent popularity, the same within the categories of
    the user's last events, neighbour sessions, incremental matrix factorization, the same model frozen after the first
    fifth, and retrained from scratch three times.

    Examples: streamrec eval prequential --data events.parquet --limit 100000 --json;
    streamrec eval prequential --data folder --show-seen --plot windows.png
    """
    if plot is not None:
        check_plot(plot)
    settings = Settings.from_env(**({} if hide_seen is None else {"hide_seen": hide_seen}))
    file = source.open()
    result = evaluate_prequential(file, settings, limit=limit, seed=seed)
    if plot is not None:
        plot_windows(result, plot, title=f"{source.path.name}: {result.events:,} events scored")
    if as_json:
        print_json(result)
    else:
        console().print(_table(result))
        say_what_became([file.tally])


def evaluate_prequential(file: EventFile, settings: Settings, *, limit: int | None, seed: int) -> PrequentialResult:
    """Play a file through the workers' fold, training step and ranking, and through the baselines."""
    started_s = time.monotonic()
    items, events = read_stream(file, limit)
    with TemporaryDirectory() as directory, progress_bar() as bar:
        run = _new_run(settings, Path(directory), items, {event.item_id: event.category for event in events}, seed)
        task = bar.add_task("events", total=len(events), rate="")
        unscored = int(UNSCORED_SHARE * len(events))
        run.play(bar.track(events, task_id=task), unscored=unscored, total=len(events))
    if not len(run.scores):
        raise UsageError(f"{file.path}: too few events to score any")
    return summarize(
        run.scores,
        run.quality,
        learned_events=run.events,
        rollbacks=run.rollbacks,
        skipped=dict(file.tally.skipped),
        cpu_s={name: round(spent_s, 1) for name, spent_s in run.cpu_s.items()},
        seconds=round(time.monotonic() - started_s, 1),
        seed=seed,
        settings=settings.model_dump(
            include={"hide_seen", "embedding_dim", "sequence_length", "micro_batch_events", "admit_after", "channels"},
            mode="json",
        ),
    )


def read_stream(file: EventFile, limit: int | None) -> tuple[list[Item], list[Event]]:
    """Return the item catalogue beside a file, and the file's first events by time.

    Raises
    ------
    StreamrecError
        If most rows are not events: figures about the rest would describe a different stream.
    """
    items = list(read_items(file.items_path)) if file.items_path else []
    category_of = {item.item_id: item.category or "" for item in items}
    rows = file.events(limit=limit, category_of=category_of)
    events = [_event(each.row, each.message) for each in rows if each.message is not None]
    file.tally.check(file.path)
    events.sort(key=lambda event: event.event_time_ms)  # a no-op if the file is in order
    return items, events


def new_trainer(settings: Settings, config: ModelConfig, checkpoints: Path, items: list[Item], seed: int) -> Trainer:
    """Return an untrained trainer that knows the catalogue."""
    trainer = Trainer(config, Rules.of(settings, seed=seed), device=one_cpu_thread(), checkpoints=checkpoints)
    for item in items:
        trainer.put_item(item)
    return trainer


def run_alone(
    settings: Settings, checkpoints: Path, items: list[Item], seed: int, shape: Mapping[str, Any] = MappingProxyType({})
) -> Prequential:
    """Return a run without other methods; `shape` are other fields of the network's shape."""
    config = ModelConfig(dim=settings.embedding_dim, max_length=settings.sequence_length, **shape)
    return Prequential(
        new_trainer(settings, config, checkpoints, items, seed),
        ModelRanker(hide_seen=settings.hide_seen),
        [],
        micro_batch_events=settings.micro_batch_events,
        micro_batch_age_ms=1_000 * settings.micro_batch_age_s,
        rules=settings.fold_rules,
    )


def _new_run(
    settings: Settings, checkpoints: Path, items: list[Item], category_of: Mapping[str, str], seed: int
) -> Prequential:
    hide_seen, length = settings.hide_seen, settings.sequence_length
    config, device = ModelConfig(dim=settings.embedding_dim, max_length=length), one_cpu_thread()
    trainer = new_trainer(settings, config, checkpoints, items, seed)

    def new_learning() -> OnlineModel:
        return OnlineModel(config, Rules.of(settings, seed=seed), device=device, catalogue=trainer.catalogue)

    return Prequential(
        trainer,
        ModelRanker(hide_seen=hide_seen),
        [
            RecentPopularity(hide_seen=hide_seen, sequence_length=length),
            PopularInCategories(hide_seen=hide_seen, sequence_length=length, category_of=category_of),
            SessionNeighbours(hide_seen=hide_seen, sequence_length=length),
            MatrixFactorization(hide_seen=hide_seen, sequence_length=length, seed=seed),
        ],
        frozen=Frozen(hide_seen=hide_seen),
        retrained=Retrained(new_learning, hide_seen=hide_seen, micro_batch_events=settings.micro_batch_events),
        micro_batch_events=settings.micro_batch_events,
        micro_batch_age_ms=1_000 * settings.micro_batch_age_s,
        rules=settings.fold_rules,
    )


def _event(row: int, message: Click | Purchase | Feedback) -> Event:
    record = event_record(message)
    event = decode_event((record.topic, 0), row, MAX_EVENT_TIME_MS, record.value, {})
    return event._replace(id_hash=None, content_hash=0)


def _table(result: PrequentialResult) -> DataTable:
    table = DataTable(
        "", "NDCG@10", "hit rate@10", title=f"{result.events:,} of {result.learned_events:,} events scored"
    )
    table.add_row("streamrec", f"{result.ndcg_at_10:.4f}", f"{result.hit_rate_at_10:.4f}")
    for name, gain in sorted(result.baselines.items(), key=lambda baseline: -baseline[1]):
        table.add_row(name, f"{gain:.4f}", f"{result.baseline_hit_rates_at_10[name]:.4f}")
    low, high = result.relative_gain_interval
    table.caption = (
        f"{result.relative_gain:+.1%} over {result.best_baseline} (95 %: {low:+.1%} to {high:+.1%}; "
        f"McNemar p = {result.p_value:.2g})"
    )
    return table
