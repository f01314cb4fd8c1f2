"""`streamrec dlq`: refused records."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

import typer

from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.kafka.dead_letters import (
    DeadLetter,
    newest_item_records,
    read_dead_letters,
    records_to_replay,
)
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import DataTable, Json, console, print_json
from streamrec.contracts.topics import ITEMS, dead_letter_topic
from streamrec.errors import UsageError
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import fits

ITEMS_LETTERS = dead_letter_topic(ITEMS)
SHOWN_CHARACTERS = 2_000
_RECORDS_AT_A_TIME = 500

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show or replay dead letters.")

Reason = Annotated[str | None, typer.Option(help="Only dead letters with this reason.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Count refused records by topic and reason, each with the latest dead letter.

    A record that was replayed and refused again has several dead letters. It counts once, for the latest reason.

    Examples: streamrec dlq list; streamrec dlq list --json
    """
    letters: Counter[tuple[str, str]] = Counter()
    newest: dict[tuple[str, str], str] = {}
    refused: dict[int, tuple[str, str]] = {}
    for letter in _letters(None):
        kind = (letter.source.topic, letter.header("reason"))
        letters[kind] += 1
        newest[kind] = letter.position
        refused[letter.identity] = kind
    counts = Counter(refused.values())
    if as_json:
        print_json(
            [
                {"topic": topic, "reason": reason, "count": counts[kind], "letters": count, "newest": newest[kind]}
                for kind, count in sorted(letters.items())
                for topic, reason in [kind]
            ]
        )
        return
    if not letters:
        console().print("no dead letters")
        return
    table = DataTable("topic", "reason", "records", "letters", "newest")
    for kind, count in sorted(letters.items()):
        topic, reason = kind
        table.add_row(topic, reason, f"{counts[kind]:,}", f"{count:,}", newest[kind])
    console().print(table)


@app.command()
def show(
    position: Annotated[str, typer.Argument(help="The dead letter: topic:partition:offset, as printed by `dlq list`.")],
    as_json: Json = False,
) -> None:
    """Show one dead letter: reason, headers, key and value.

    Example: streamrec dlq show clicks.dlq:0:17
    """
    letter = next((letter for letter in _letters(None) if letter.position == position), None)
    if letter is None:
        raise UsageError(f"no dead letter at {position}; see `streamrec dlq list`")
    value = letter.record.value
    if as_json:
        print_json(
            {
                "position": letter.position,
                "origin": letter.origin,
                "timestamp_ms": letter.record.timestamp_ms,
                "key": _text(letter.record.key),
                "headers": {name: _text(header) for name, header in letter.record.headers.items()},
                "value_base64": None if value is None else base64.b64encode(value).decode(),
            }
        )
        return
    table = DataTable("", "", show_header=False, title=f"{position}, from {letter.origin}", title_justify="left")
    table.add_row("key", _shown(letter.record.key))
    for name, header in letter.record.headers.items():
        table.add_row(name, _shown(header))
    table.add_row("value", _shown(value))
    console().print(table)


@app.command()
def replay(reason: Reason = None, as_json: Json = False) -> None:
    """Republish refused records to their original topics.

    Dead letters are kept. A record that is replayed twice is applied once; one that is refused again becomes a dead
    letter again. A record of `items` is not replayed if the topic has a newer one with its key. Records that were
    shortened, or that their topic does not accept, are skipped and counted.

    Examples: streamrec dlq replay; streamrec dlq replay --reason unknown-type
    """
    kafka = resolved_settings().require_kafka()
    item_keys = {letter.record.key or b"" for letter in _letters(reason) if letter.source.topic == ITEMS_LETTERS}
    newest_items = newest_item_records(kafka, item_keys) if item_keys else {}
    publisher = KafkaPublisher(kafka)
    left_out: Counter[str] = Counter()
    whole = _whole(_letters(reason), left_out)
    records = _fitting(records_to_replay(whole, newest_items=newest_items), publisher, left_out)
    replayed: Counter[str] = Counter()
    while chunk := list(islice(records, _RECORDS_AT_A_TIME)):
        publisher.publish(chunk)
        replayed.update(record.topic for record in chunk)
    if as_json:
        print_json({"replayed": replayed, "left_out": left_out})
        return
    parts = ", ".join(f"{count:,} to {topic}" for topic, count in replayed.items())
    console().print(f"replayed {parts or 'nothing'}")
    for why, count in left_out.items():
        console().print(f"skipped {count:,}: {why}")


def _whole(letters: Iterable[DeadLetter], left_out: Counter[str]) -> Iterator[DeadLetter]:
    """Skip dead letters that hold only part of their record; Kafka has the original until retention deletes it."""
    for letter in letters:
        if {"key", "value"} & set(letter.header("cut").split(",")):
            left_out["shortened to fit in a dead letter"] += 1
        else:
            yield letter


def _fitting(records: Iterable[Outgoing], publisher: KafkaPublisher, left_out: Counter[str]) -> Iterator[Outgoing]:
    for record in records:
        if not fits(record, publisher.room(record.topic)):
            left_out["larger than the topic's limit"] += 1
        else:
            yield record


def _letters(reason: str | None) -> Iterator[DeadLetter]:
    letters = read_dead_letters(resolved_settings().require_kafka())
    return (letter for letter in letters if reason is None or letter.header("reason") == reason)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _shown(value: bytes | None) -> str:
    if value is None:
        return "(null)"
    text = value[:SHOWN_CHARACTERS].decode(errors="backslashreplace")
    return text + (f" … {len(value):,} bytes" if len(value) > SHOWN_CHARACTERS else "")
