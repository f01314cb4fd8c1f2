"""`streamrec eval prequential`: how good the lists are on a stream, event by event."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from msgspec import Struct
from rich.table import Table

from streamrec.adapters.event_files import EventFile, read_items
from streamrec.cli.output import Json, console, print_json, progress_bar
from streamrec.contracts.incoming import Item, Purchase
from streamrec.domain.event import Event, EventType, Source
from streamrec.errors import UsageError
from streamrec.model.evaluation.metrics import CUTOFF, Scores, ndcg, reciprocal_rank
from streamrec.model.evaluation.prequential import Prequential, one_cpu_thread
from streamrec.model.ranker import ModelRanker
from streamrec.model.sequence_model import ModelConfig
from streamrec.model.trainer import Trainer
from streamrec.playback.popularity import HALF_LIVES_MS, HOUR_MS, RecentPopularity
from streamrec.settings import Settings

UNSCORED_SHARE = 0.2
"""The first fifth of a stream is for settings, not for scores."""

WINDOWS = 10


class Window(Struct, kw_only=True):
    """A tenth of the scored events."""

    events: int
    hit_rate_at_10: float
    popular_hit_rate_at_10: float
    new_item_share: float


class PrequentialResult(Struct, kw_only=True):
    """How the lists fared on a stream."""

    events: int
    scored: int
    skipped: dict[str, int]
    """Rows that are no event, by their event type."""
    hit_rate_at_10: float
    ndcg_at_10: float
    mrr_at_10: float
    baselines: dict[str, dict[str, float]]
    """Recent popularity by half-life: `hit_rate_at_10` and `ndcg_at_10` on the same events."""
    best_baseline: str
    relative_gain: float
    """Of NDCG@10 over the best baseline."""
    coverage: float
    """Share of the items so far that were in any list."""
    new_item_share: float
    """Share of events on items never seen before, which no method can list."""
    windows: list[Window]
    train_cpu_ms_per_event: float
    apply_cpu_ms_per_event: float
    rank_cpu_ms_per_event: float
    seconds: float
    seed: int
    settings: dict[str, Any]


def prequential(
    data: Annotated[Path, typer.Option(help="A file of past events, or its folder, as `replay` reads it.")],
    limit: Annotated[int | None, typer.Option(min=10, help="Stop after so many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds every draw.")] = 0,
    hide_seen: Annotated[
        bool | None, typer.Option("--hide-seen/--show-seen", help="Overrides STREAMREC_HIDE_SEEN.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recommend, score, then learn, event by event; the first fifth is learned without being scored.

    Examples: streamrec eval prequential --data events.parquet --limit 100000 --json;
    streamrec eval prequential --data folder --show-seen
    """
    settings = Settings.from_env(**({} if hide_seen is None else {"hide_seen": hide_seen}))
    result = evaluate_prequential(EventFile.open(data), settings, limit=limit, seed=seed)
    if as_json:
        print_json(result)
    else:
        console().print(_table(result))


def evaluate_prequential(file: EventFile, settings: Settings, *, limit: int | None, seed: int) -> PrequentialResult:
    """Play a file through the workers' own fold, training step and ranking."""
    started_s = time.monotonic()
    rows = min(limit or file.rows, file.rows)
    items = list(read_items(file.items_path)) if file.items_path else []
    skipped: Counter[str] = Counter()
    with TemporaryDirectory() as directory, progress_bar() as bar:
        run = _new_run(settings, Path(directory), items, seed)
        task = bar.add_task("events", total=rows, rate="")
        events = _events(file, limit, {item.item_id: item.category or "" for item in items}, skipped)
        run.play(bar.track(events, task_id=task), unscored=int(UNSCORED_SHARE * rows))
    if not run.scores.ranks:
        raise UsageError(f"{file.path}: too few events to score any")
    return _result(run, skipped, settings, seed, time.monotonic() - started_s)


def _new_run(settings: Settings, directory: Path, items: list[Item], seed: int) -> Prequential:
    trainer = Trainer(
        ModelConfig(dim=settings.embedding_dim, max_length=settings.sequence_length),
        hide_seen=settings.hide_seen,
        device=one_cpu_thread(),
        checkpoints=directory,
        seed=seed,
    )
    ranker = ModelRanker(hide_seen=settings.hide_seen)
    for item in items:
        trainer.put_item(item)
        ranker.put_item(item)
    return Prequential(
        trainer,
        ranker,
        RecentPopularity(hide_seen=settings.hide_seen, sequence_length=settings.sequence_length),
        micro_batch_events=settings.micro_batch_events,
        sequence_length=settings.sequence_length,
    )


def _events(file: EventFile, limit: int | None, category_of: dict[str, str], skipped: Counter[str]) -> Iterator[Event]:
    for row, message, reason in file.events(limit=limit, category_of=category_of):
        if message is None:
            skipped[reason] += 1
            continue
        event_type = EventType.PURCHASE if isinstance(message, Purchase) else EventType.CLICK
        yield Event(
            message.user_id,
            message.item_id,
            message.event_time_ms,
            Source(event_type, 0),
            row,
            category=message.category or "",
        )


def _result(
    run: Prequential, skipped: Counter[str], settings: Settings, seed: int, seconds: float
) -> PrequentialResult:
    ranks, others = np.array(run.scores.ranks), np.array(run.scores.baselines)
    gains = ndcg(ranks)
    baselines = {
        f"popular_{half_life_ms / HOUR_MS:g}h": {
            "hit_rate_at_10": _rounded((others[:, index] < CUTOFF).mean()),
            "ndcg_at_10": _rounded(ndcg(others[:, index]).mean()),
        }
        for index, half_life_ms in enumerate(HALF_LIVES_MS)
    }
    best = max(baselines, key=lambda name: baselines[name]["ndcg_at_10"])
    costs = run.costs
    return PrequentialResult(
        events=costs.events,
        scored=len(ranks),
        skipped=dict(skipped),
        hit_rate_at_10=_rounded((ranks < CUTOFF).mean()),
        ndcg_at_10=_rounded(gains.mean()),
        mrr_at_10=_rounded(reciprocal_rank(ranks).mean()),
        baselines=baselines,
        best_baseline=best,
        relative_gain=_rounded(gains.mean() / max(baselines[best]["ndcg_at_10"], 1e-9) - 1),
        coverage=_rounded(len(run.listed) / max(run.trainer.learning.items.vocabulary.live_items, 1)),
        new_item_share=_rounded(np.mean(run.scores.new_items)),
        windows=_windows(run.scores, list(baselines).index(best)),
        train_cpu_ms_per_event=_rounded(1e3 * costs.train_s / costs.events),
        apply_cpu_ms_per_event=_rounded(1e3 * costs.apply_s / costs.events),
        rank_cpu_ms_per_event=_rounded(1e3 * costs.rank_s / costs.events),
        seconds=round(seconds, 1),
        seed=seed,
        settings=settings.model_dump(
            include={"hide_seen", "embedding_dim", "sequence_length", "micro_batch_events"}, mode="json"
        ),
    )


def _windows(scores: Scores, best: int) -> list[Window]:
    ranks, others, new = np.array(scores.ranks), np.array(scores.baselines)[:, best], np.array(scores.new_items)
    return [
        Window(
            events=len(part),
            hit_rate_at_10=_rounded((ranks[part] < CUTOFF).mean()),
            popular_hit_rate_at_10=_rounded((others[part] < CUTOFF).mean()),
            new_item_share=_rounded(new[part].mean()),
        )
        for part in np.array_split(np.arange(len(ranks)), min(WINDOWS, len(ranks)))
    ]


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 5)


def _table(result: PrequentialResult) -> Table:
    table = Table("", "hit rate@10", "NDCG@10", title=f"{result.scored:,} of {result.events:,} events scored")
    table.add_row("streamrec", f"{result.hit_rate_at_10:.4f}", f"{result.ndcg_at_10:.4f}")
    for name, figures in result.baselines.items():
        table.add_row(name, f"{figures['hit_rate_at_10']:.4f}", f"{figures['ndcg_at_10']:.4f}")
    return table
