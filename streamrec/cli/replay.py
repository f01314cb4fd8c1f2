"""`streamrec replay`: plays a file of past events into Kafka."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from streamrec.adapters.event_files import EventFile, FileEvent, read_items
from streamrec.adapters.kafka import KafkaPublisher
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import Json, console, print_json, progress_bar
from streamrec.contracts.incoming import Item
from streamrec.errors import StreamrecError, TransientError, UsageError
from streamrec.playback.pace import DueS, as_fast_as_possible, at_rate, at_speedup, in_time
from streamrec.playback.records import event_record, publish_items
from streamrec.service.ports import Publisher


class Played(Struct, kw_only=True):
    """What became of the rows of a file."""

    rows: int = 0
    published: Counter[str]
    """Events by topic."""
    skipped: Counter[str]
    """Rows that are no event, by their event type."""
    items: int = 0
    seconds: float = 0.0
    events_per_s: float = 0.0


def replay(
    file: Annotated[Path, typer.Argument(help="Parquet, CSV or JSON Lines, or a folder with a file `events.*`.")],
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events per second; as fast as possible without.")
    ] = None,
    speedup: Annotated[
        float | None, typer.Option(min=0.001, help="Play so many times faster than it happened.")
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many rows.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many rows.")] = None,
    as_json: Json = False,
) -> None:
    """Play a file of past events into Kafka.

    Columns: user_id, item_id, event_type, timestamp (Unix milliseconds), perhaps value, and any others, which travel as
    the event's context. Views, clicks, favourites, carts and ratings become clicks; purchases become purchases; any
    other row is counted and left out. An items.parquet beside the file is published first. The id of an event is the
    file's digest and its row, so that playing it twice changes nothing, for users with up to 1,024 events of a topic.

    Examples: streamrec replay events.parquet --limit 50000; streamrec replay folder --rate 200;
    streamrec replay events.csv --speedup 3600 --skip 50000
    """
    if rate is not None and speedup is not None:
        raise UsageError("--rate and --speedup exclude each other")
    events = EventFile.open(file)
    due_s = at_rate(rate) if rate else at_speedup(speedup) if speedup else as_fast_as_possible()
    played = _play(events, KafkaPublisher(resolved_settings().require_kafka()), due_s, skip=skip, limit=limit)
    if as_json:
        print_json(played)
        return
    published = [f"{count:,} {topic}" for topic, count in played.published.items()]
    skipped = [f"{count:,} of type {event_type} skipped" for event_type, count in played.skipped.items()]
    items = [f"{played.items:,} items"] if played.items else []
    console().print(
        f"{played.rows:,} rows in {played.seconds:.1f} s, {played.events_per_s:,.0f} a second: "
        + (", ".join([*items, *published, *skipped]) or "nothing")
    )


def _play(file: EventFile, publisher: Publisher, due_s: DueS, *, skip: int, limit: int | None) -> Played:
    played = Played(published=Counter(), skipped=Counter())
    category_of: dict[str, str] = {}
    started_s = time.monotonic()
    with progress_bar() as bar:
        if file.items_path is not None:
            catalogue = bar.add_task("items", total=None, rate="")
            items = bar.track(read_items(file.items_path), task_id=catalogue)
            category_of = publish_items(_counted(items, played), publisher)
        total = max(0, file.rows - skip)
        task = bar.add_task("events", total=total if limit is None else min(limit, total), rate="")
        started_s = time.monotonic()
        for chunk in in_time(file.events(skip=skip, limit=limit, category_of=category_of), due_s, _event_time_ms):
            _publish(chunk, publisher, played)
            played.seconds = round(time.monotonic() - started_s, 3)
            played.events_per_s = round(played.rows / max(played.seconds, 0.001), 1)
            bar.update(task, completed=played.rows, rate=f"{played.events_per_s:,.0f}/s")
    return played


def _publish(chunk: list[FileEvent], publisher: Publisher, played: Played) -> None:
    messages = [event.message for event in chunk if event.message is not None]
    records = [event_record(message) for message in messages]
    try:
        publisher.publish(records)
    except TransientError as error:
        raise StreamrecError(f"{error}; go on with --skip {chunk[0].row}") from error
    played.rows += len(chunk)
    played.published.update(record.topic for record in records)
    played.skipped.update(event.skipped for event in chunk if event.message is None)


def _counted(items: Iterable[Item], played: Played) -> Iterator[Item]:
    for item in items:
        played.items += 1
        yield item


def _event_time_ms(event: FileEvent) -> int | None:
    return None if event.message is None else event.message.event_time_ms
