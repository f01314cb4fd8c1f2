"""Item catalogues, with every field of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from streamrec.adapters.event_files.formats import plain_name
from streamrec.adapters.event_files.tables import UNREADABLE, Row, look
from streamrec.adapters.event_files.tally import SHOWN_CHARACTERS, Example, FileTally
from streamrec.adapters.event_files.values import as_boolean, as_id, as_number, as_text, is_missing
from streamrec.contracts.decode import decode_item
from streamrec.contracts.incoming import Item
from streamrec.errors import BadRecordError, UsageError

_FIELDS = {each.name: each.type for each in msgspec.structs.fields(Item)}
_ALIASES = {"category": ("category_id", "category", "genres"), "price": ("price", "median_price")}
_JUDGED = ("item_id", "available")
"""Passed to the contract's decoder unchanged: an item with an unclear `available` counts as withdrawn."""

_encoder = msgspec.json.Encoder()


def read_items(path: Path, tally: FileTally | None = None) -> Iterator[Item]:
    """Read an item catalogue: Parquet, CSV or JSON Lines, uncompressed or compressed.

    Columns are the fields of the contract; `category_id` and `genres` are aliases of `category`, `median_price` of
    `price`. Rows that the contract refuses are counted and skipped; invalid optional fields are dropped.

    Parameters
    ----------
    tally
        Receives the counts.

    Raises
    ------
    UsageError
        If it cannot be read or has no column `item_id`.
    """
    tally = FileTally() if tally is None else tally
    table = look(path)
    columns = {plain_name(column): column for column in reversed(table.columns())}
    if "item_id" not in columns:
        raise UsageError(f"{path}: no column item_id; columns: {', '.join(columns)}")
    for number, row in table.rows():
        tally.rows += 1
        if row is None:
            tally.count(tally.refused, UNREADABLE, lambda number=number: Example(row=number))  # type: ignore[misc]
            continue
        by_name = {plain_name(name): value for name, value in row.items()}
        item = _item(number, by_name, tally, from_text=table.kind == "text")
        if item is not None:
            tally.taken += 1
            yield item


def _item(number: int, row: Row, tally: FileTally, *, from_text: bool) -> Item | None:
    fields: dict[str, Any] = {}
    dropped: list[str] = []
    for name, expected in _FIELDS.items():
        value = next((row[each] for each in _ALIASES.get(name, (name,)) if not is_missing(row.get(each))), None)
        if value is None:
            continue
        value = _converted(name, value, from_text=from_text)
        if name in _JUDGED or _fits(value, expected):
            fields[name] = value
        else:
            dropped.append(name)
    item: Item | None = None
    try:
        item = decode_item(_encoder.encode(fields), dropped=dropped)
    except (BadRecordError, UnicodeEncodeError, TypeError) as error:
        reason = error.reason if isinstance(error, BadRecordError) else "bad-value"
        detail = str(error)
        column = next((name for name in _JUDGED if name in detail), "")
        tally.count(tally.refused, reason, lambda: _example(number, row, column, detail))
    for name in dropped:
        tally.count(tally.dropped, name, lambda name=name: _example(number, row, name))  # type: ignore[misc]
    return item


def _example(number: int, row: Row, column: str, detail: str = "") -> Example:
    value = next((row[each] for each in _ALIASES.get(column, (column,)) if each in row), "")
    return Example(row=number, column=column, value=_shown(value), detail=_shown(detail))


def _converted(name: str, value: object, *, from_text: bool) -> object:
    if name == "item_id":
        return as_id(value, from_text=from_text)
    if name == "available":
        return as_boolean(value)
    if _FIELDS[name] == _FIELDS["price"]:
        return as_number(value)
    if name == "currency" and isinstance(value, str):
        return value.upper()
    return value if isinstance(value, (list, dict)) else as_text(value)


def _fits(value: object, expected: Any) -> bool:  # noqa: ANN401  # a type of the contract
    try:
        _encoder.encode(msgspec.convert(value, expected))
    except (msgspec.ValidationError, UnicodeEncodeError, TypeError):
        return False
    return True


def _shown(value: object) -> str:
    return str(value)[:SHOWN_CHARACTERS]
