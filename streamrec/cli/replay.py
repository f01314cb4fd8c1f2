"""`streamrec replay`: plays a file of past events into Kafka."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from streamrec.adapters.event_files import EventFile, Example, FileEvent, FileTally, read_items
from streamrec.adapters.kafka import KafkaPublisher
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.event_source import EventSource, reads_events, say_what_became
from streamrec.cli.output import Json, console, print_json, progress_bar
from streamrec.errors import StreamrecError, TransientError, UsageError
from streamrec.playback.pace import DueS, as_fast_as_possible, at_rate, at_speedup, in_time
from streamrec.playback.records import event_record, publish_items
from streamrec.service.ports import Publisher


class Played(Struct, kw_only=True):
    """Counts of the rows of a file by outcome."""

    rows: int = 0
    published: Counter[str]
    """Events by topic."""
    skipped: Counter[str]
    """Skipped rows, by event type or by the reason for which the contract refuses them."""
    dropped: Counter[str]
    """Dropped optional fields, by name; their events were published without them."""
    examples: dict[str, Example]
    """Where each reason, event type or field first occurred."""
    items: int = 0
    items_skipped: Counter[str]
    """Skipped rows of the catalogue, by reason."""
    seconds: float = 0.0
    events_per_s: float = 0.0


@reads_events(
    Annotated[Path, typer.Argument(help="Parquet, text or JSON Lines, also .gz and .zst, or a folder with `events.*`.")]
)
def replay(
    source: EventSource,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events per second; as fast as possible by default.")
    ] = None,
    speedup: Annotated[
        float | None, typer.Option(min=0.001, help="Play this many times faster than the original pace.")
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="Skip this many rows.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many rows.")] = None,
    as_json: Json = False,
) -> None:
    """Play a file of past events into Kafka.

    Supported formats: dumps of streamrec's topics, RecBole, MovieLens, RetailRocket, OTTO, MIND, Yoochoose, Amazon,
    H&M, Last.fm, and tables with the columns user_id, item_id, event_type, timestamp, or similar names. Every field of
    the message contract can be a column; other columns become the event's context. Views
    become clicks, orders and transactions purchases; carts, likes, ratings and the like become feedback.

    Each row is validated against the contract before it is published. Skipped rows are counted by reason, with an
    example; if more rows are refused than accepted, the exit code is 1. An items.parquet, .csv or .jsonl beside the
    file is published first. The id of an event is its event_id column, or else the file's digest and the row number:
    playing a file twice changes nothing for users with up to 1,024 events per topic.

    Examples: streamrec replay events.parquet --limit 50000; streamrec replay folder --rate 200;
    streamrec replay ml-1m/ratings.dat; streamrec replay events.csv.gz --speedup 3600 --skip 50000;
    streamrec replay log.txt --separator ';' --columns user_id=visitorid,item_id=sku,event_type=what,timestamp=at
    --map addtocart=add_to_cart,transaction=purchase --time-unit s
    """
    if rate is not None and speedup is not None:
        raise UsageError("--rate and --speedup cannot be combined")
    file, catalogue = source.open(), FileTally()
    due_s = at_rate(rate) if rate else at_speedup(speedup) if speedup else as_fast_as_possible()
    publisher = KafkaPublisher(resolved_settings().require_kafka())
    played = _play(file, publisher, due_s, skip=skip, limit=limit, catalogue=catalogue)
    if as_json:
        print_json(played)
    else:
        console().print(_said(played))
        say_what_became([catalogue, file.tally])
    file.tally.check(file.path)


def _said(played: Played) -> str:
    published = [f"{count:,} {topic}" for topic, count in played.published.items()]
    skipped = [f"{played.skipped.total():,} skipped"] if played.skipped else []
    items = [f"{played.items:,} items"] if played.items else []
    return f"{played.rows:,} rows in {played.seconds:.1f} s, {played.events_per_s:,.0f} events/s: " + (
        ", ".join([*items, *published, *skipped]) or "nothing"
    )


def _play(
    file: EventFile, publisher: Publisher, due_s: DueS, *, skip: int, limit: int | None, catalogue: FileTally
) -> Played:
    published: Counter[str] = Counter()
    category_of: dict[str, str] = {}
    seconds = 0.0
    with progress_bar() as bar:
        if file.items_path is not None:
            task = bar.add_task("items", total=None, rate="")
            category_of = publish_items(bar.track(read_items(file.items_path, catalogue), task_id=task), publisher)
        total = max(0, file.rows - skip)
        task = bar.add_task("events", total=total if limit is None else min(limit, total), rate="")
        started_s = time.monotonic()
        for chunk in in_time(file.events(skip=skip, limit=limit, category_of=category_of), due_s, _event_time_ms):
            published.update(_publish(chunk, publisher))
            seconds = time.monotonic() - started_s
            bar.update(task, completed=file.tally.rows, rate=f"{file.tally.rows / max(seconds, 0.001):,.0f}/s")
    return Played(
        rows=file.tally.rows,
        published=published,
        skipped=file.tally.skipped,
        dropped=file.tally.dropped,
        examples=file.tally.examples,
        items=catalogue.taken,
        items_skipped=catalogue.skipped,
        seconds=round(seconds, 3),
        events_per_s=round(published.total() / max(seconds, 0.001), 1),
    )


def _publish(chunk: list[FileEvent], publisher: Publisher) -> list[str]:
    """Publish events, and return the topic of each."""
    records = [event_record(event.message, event.headers) for event in chunk if event.message is not None]
    try:
        publisher.publish(records)
    except TransientError as error:
        raise StreamrecError(f"{error}; continue with --skip {chunk[0].row}") from error
    return [record.topic for record in records]


def _event_time_ms(event: FileEvent) -> int | None:
    return None if event.message is None else event.message.event_time_ms
