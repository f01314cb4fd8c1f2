"""`streamrec topics`: lists topics and creates missing ones."""

from __future__ import annotations

import typer

from streamrec.adapters.kafka import KafkaPublisher, create_topics
from streamrec.adapters.kafka.lag import read_topics
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import DataTable, Json, console, print_json
from streamrec.service.largest_records import (
    created_limits,
    needs_of_interests,
    needs_of_recall,
    needs_of_trainer,
    require_room,
)

app = typer.Typer(add_completion=False, help="List topics, or create missing ones.")


@app.callback(invoke_without_command=True)
def topics(context: typer.Context, as_json: Json = False) -> None:
    """List streamrec's topics with their partitions and an upper bound of the number of records in each.

    Offsets are counted, including those of transaction markers and of records that compaction removed.

    Examples: streamrec topics; streamrec topics --json; streamrec topics create
    """
    if context.invoked_subcommand is not None:
        return
    found = read_topics(resolved_settings().require_kafka())
    if as_json:
        print_json(found)
        return
    table = DataTable("topic")
    for name in ("partitions", "records, at most"):
        table.add_column(name, justify="right")
    for topic in found:
        table.add_row(topic.topic, str(topic.partitions or "missing"), f"{topic.records:,}")
    console().print(table)


@app.command()
def create(as_json: Json = False) -> None:
    """Create missing topics; existing ones are left unchanged.

    STREAMREC_PARTITIONS and STREAMREC_REPLICATION set partitions and replicas. A topic whose record size limit is too
    small for STREAMREC_TOP_K or STREAMREC_SEQUENCE_LENGTH is an error.

    Example: STREAMREC_PARTITIONS=32 streamrec topics create
    """
    settings = resolved_settings()
    kafka = settings.require_kafka()
    limits = created_limits(settings.sequence_length, settings.top_k, hide_seen=settings.hide_seen)
    created = create_topics(kafka, settings.partitions, settings.replication, limits=limits)
    # an existing topic keeps its limit; a worker whose records do not fit would wait
    of_interests = needs_of_interests(settings.sequence_length, hide_seen=settings.hide_seen)
    needs = [*of_interests, *needs_of_recall(settings.top_k), *needs_of_trainer()]
    require_room(KafkaPublisher(kafka), needs)
    if as_json:
        print_json({"created": created})
    else:
        console().print(f"created {', '.join(created)}" if created else "all topics exist")
