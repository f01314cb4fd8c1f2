"""`streamrec lag`: consumer lag of every worker."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

import typer
from rich.live import Live

from streamrec.adapters.kafka.group_lag import PartitionLag
from streamrec.adapters.kafka.lag import GROUPS, LagReader, read_lag, when_loaded
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import DataTable, Json, console, print_json
from streamrec.errors import TransientError, UsageError
from streamrec.kafka_access import KafkaAccess

WATCH_S = 1.5

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")]


def lag(watch: Watch = False, as_json: Json = False) -> None:
    """Show consumer lag per worker and partition, in records and in seconds.

    Seconds behind is the age of the oldest record that the worker has not processed yet.

    Examples: streamrec lag; streamrec lag --watch; streamrec lag --json
    """
    kafka = resolved_settings().require_kafka()
    if watch and as_json:
        raise UsageError("--watch and --json cannot be combined")
    if watch:
        with suppress(KeyboardInterrupt):
            asyncio.run(_watch(kafka))
        return
    partitions = read_lag(kafka)
    if as_json:
        print_json({"lag": sum(part.lag for part in partitions), "partitions": partitions})
    else:
        console().print(lag_table(partitions))


async def _watch(kafka: KafkaAccess) -> None:
    reader, table = LagReader(kafka), DataTable()
    try:
        await when_loaded(reader.read)()  # a wrong broker address fails before anything else is read
        with Live(console=console(), auto_refresh=False) as live:
            while True:
                try:
                    seen = await reader.read()
                    table = watched([part for group in GROUPS for part in seen.of(group)], console().height)
                except TransientError as error:
                    table.caption = str(error)
                live.update(table, refresh=True)
                await asyncio.sleep(WATCH_S)
    finally:
        await reader.close()


def watched(partitions: list[PartitionLag], lines: int) -> DataTable:
    """Return the lag of as many partitions as fit on the screen, those with the most lag."""
    places = lines - 2  # besides the header and the line that counts the rest
    if len(partitions) <= places:
        return lag_table(partitions)
    table = lag_table(sorted(partitions, key=lambda part: -part.lag)[:places])
    table.caption = f"{len(partitions) - places} more partitions, none with more lag"
    return table


def lag_table(partitions: list[PartitionLag]) -> DataTable:
    """Return the lag of each partition as a table."""
    table = DataTable(box=None, padding=(0, 1, 0, 0), pad_edge=False)  # fits eighty columns
    for name in ("group", "topic"):
        table.add_column(name, no_wrap=True)
    for name in ("part", "committed", "end", "lag", "behind s"):
        table.add_column(name, justify="right")
    for part in partitions:
        table.add_row(
            part.group,
            part.topic,
            str(part.partition),
            "-" if part.committed is None else f"{part.committed:,}",
            f"{part.end:,}",
            f"{part.lag:,}",
            "unknown" if part.behind_s is None else f"{part.behind_s:.1f}",
        )
    return table
