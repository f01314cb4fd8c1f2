"""`streamrec lag`: how far every worker is behind."""

from __future__ import annotations

from rich.table import Table

from streamrec.adapters.kafka.lag import PartitionLag, read_lag
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import Json, console, print_json


def lag(as_json: Json = False) -> None:
    """Print how far each worker is behind in each partition, in records and in seconds.

    Seconds behind is the age of the oldest record that the worker has not handled yet.

    Examples: streamrec lag; streamrec lag --json
    """
    partitions = read_lag(resolved_settings().require_kafka())
    if as_json:
        print_json({"lag": sum(part.lag for part in partitions), "partitions": partitions})
    else:
        console().print(lag_table(partitions))


def lag_table(partitions: list[PartitionLag]) -> Table:
    """Return the lag of each partition as a table."""
    table = Table("group", "topic")
    for name in ("partition", "committed", "end", "lag", "seconds behind"):
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
