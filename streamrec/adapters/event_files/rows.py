"""Interpretation of the cells of a row, by the columns of its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from streamrec.adapters.event_files.event_types import Kind, kind_of
from streamrec.adapters.event_files.formats import (
    GENERAL,
    HEADERS,
    SHAPES,
    FileOptions,
    Shape,
    guess_columns,
    is_recbole,
    plain_name,
)
from streamrec.adapters.event_files.tables import Row, Table, look
from streamrec.adapters.event_files.tally import SHOWN_CHARACTERS, Example
from streamrec.adapters.event_files.values import (
    as_id,
    as_number,
    as_text,
    as_time_ms,
    guess_unit,
    is_missing,
    unit_name,
)
from streamrec.contracts.incoming import Click, Purchase
from streamrec.errors import UsageError

OWN = "streamrec"
TIME = "event_time_ms"
RETURN = "return of a purchase"

_LOOKED_AT = 1_000
"""Number of rows used to guess the time unit."""

_REQUIRED = ("user_id", "item_id", "event_type", "timestamp")
_IDS = ("user_id", "item_id", "event_id", "list_id", "order_id")
_NUMBERS = ("position", "quantity", "price")
_FIELDS = (*dict.fromkeys((*_REQUIRED, *_IDS)), *_NUMBERS, "category", "currency", "value")
_PURCHASE_ONLY = ("quantity", "price", "currency", "order_id")


@dataclass(frozen=True, slots=True)
class RowReader:
    """Converts the rows of one file.

    Parameters
    ----------
    shape
        The variant of the format.
    columns
        Column by field; `timestamp` is the event time.
    options
        Options given by the user.
    from_text
        Whether cells are untyped text.
    fields_by_column
        The inverse of `columns`, plus fields with a column of the same name.
    unit, guessed
        Unit of numeric times, and whether it was guessed.
    """

    shape: Shape
    columns: Mapping[str, str]
    options: FileOptions
    from_text: bool
    fields_by_column: Mapping[str, str]
    unit: str = "ms"
    guessed: bool = False

    @classmethod
    def of(cls, file: Path, options: FileOptions) -> tuple[Table, RowReader]:
        """Inspect a file.

        Raises
        ------
        UsageError
            If it cannot be read, or a column is missing.
        """
        table, shape = _recognised(look(file, separator=options.separator), options)
        if TIME in table.columns() and not options.event_type:
            # streamrec's records need no type: a dump is named after its topic, which determines it
            named = next((kind for kind in ("click", "purchase") if f"{kind}s" in file.name.split(".")), "")
            shape = replace(shape, event_type=shape.event_type or named)
        columns = _columns(table, shape, options)
        own = {name: name for name in _FIELDS if name not in columns}
        fields_by_column = own | {column: name for name, column in columns.items()}
        reader = cls(shape, columns, options, table.kind == "text", fields_by_column, options.time_unit or "ms")
        if options.time_unit or columns["timestamp"] == TIME:
            return table, reader
        return table, replace(reader, unit=guess_unit(reader._first_times(table)), guessed=True)

    @property
    def said(self) -> str:
        """A description of how the file is read if that was detected, else empty."""
        said = []
        if self.shape.format != OWN:
            found = {name: column for name, column in self.columns.items() if name != column and name in _FIELDS}
            said.append(f"read as {self.shape.format}: " + ", ".join(f"{name} is {it}" for name, it in found.items()))
        if "event_type" not in self.columns and not self.options.event_type:
            said.append(f"every row is read as a {self.shape.event_type}; override with --event-type")
        if self.guessed and self.unit != "ms":
            said.append(f"times are read as {unit_name(self.unit)}; override with --time-unit")
        return "; ".join(said)

    def expanded(self, row: Row) -> Iterable[Row]:
        """Expand a row."""
        return (row,) if self.shape.expand is None else self.shape.expand(row)

    def kind(self, row: Row) -> tuple[Kind, str]:
        """Return how a row is used, and its event type; a purchase with a negative quantity is a return."""
        cell = self._cell(row, "event_type")
        event_type = str(as_text(cell)) if cell is not None else self.options.event_type or self.shape.event_type
        kind = kind_of(event_type, self.options.types)
        quantity = as_number(self._cell(row, "quantity"))
        if kind is Kind.PURCHASE and isinstance(quantity, (int, float)) and quantity < 0:
            return Kind.LEFT_OUT, RETURN
        return kind, event_type

    def fields(self, row: Row, message: type[Click | Purchase], event_id: str) -> dict[str, Any]:
        """Return the values of a message by field, without fields that the file does not have.

        Parameters
        ----------
        event_id
            Event id for a row without one.
        """
        fields: dict[str, Any] = {}
        context: dict[str, Any] = {}
        for column, value in row.items():
            name = self.fields_by_column.get(column, "")
            if is_missing(value) or column == HEADERS:
                continue
            if name and not (message is Click and name in _PURCHASE_ONLY):
                fields[TIME if name == "timestamp" else name] = self._converted(name, value)
            elif column == "context" and isinstance(value, dict):
                context |= value
            else:
                context[column] = _plain(value)
        fields.setdefault("event_id", event_id)
        if context and self.shape.context:
            fields["context"] = context
        return fields

    def _converted(self, name: str, value: Any) -> object:  # noqa: ANN401  # whatever a file holds
        if name in _IDS:
            return as_id(value, from_text=self.from_text)
        if name == "timestamp":
            return as_time_ms(value, self.unit)
        if name in _NUMBERS:
            return as_number(value)
        return value.upper() if name == "currency" and isinstance(value, str) else as_text(value)

    def example(self, number: int, row: Row, name: str, detail: str = "") -> Example:
        """Return the cell of a field as an example."""
        name = "timestamp" if name == TIME else name
        column = self.columns.get(name, name.removeprefix("context."))
        value = str(row.get(column, ""))[:SHOWN_CHARACTERS] if name else ""
        return Example(row=number, column=column, value=value, detail=detail[:SHOWN_CHARACTERS])

    def _first_times(self, table: Table) -> list[object]:
        rows = (row for _, row in islice(table.rows(), _LOOKED_AT) if row is not None)
        times = (self._cell(each, "timestamp") for row in rows for each in self.expanded(row))
        return [value for value in times if value is not None]

    def _cell(self, row: Row, name: str) -> Any:  # noqa: ANN401  # whatever a file holds
        value = row.get(self.columns.get(name, name))
        return None if is_missing(value) else value


def _recognised(table: Table, options: FileOptions) -> tuple[Table, Shape]:
    """Return the variant of a file, and the table read accordingly."""
    shapes = [shape for shape in SHAPES if options.format in {"", shape.format}]
    if table.kind == "text" and options.header:
        line = table.head().decode(errors="replace").removeprefix("\ufeff").split("\n", 1)[0].rstrip("\r")
        for shape in shapes:
            if shape.begins(line):
                separator = options.separator or shape.separator or table.separator
                return replace(table, separator=separator, quoted=shape.quoted, header=shape.header), shape
    if table.kind == "text" and not options.header:
        width = len(table.columns())
        return replace(table, header=tuple(str(n) for n in range(1, width + 1))), _general(GENERAL)
    columns = table.columns()
    if is_recbole(columns) and options.format in {"", "recbole"}:
        return replace(table, quoted=False), _general("recbole", columns)
    found = next((shape for shape in shapes if shape.has(columns)), None)
    if found is None and options.format not in {"", GENERAL, OWN}:
        raise UsageError(f"{table.path}: not in the format {options.format}; the columns are {', '.join(columns)}")
    return table, found or _general(GENERAL, columns)


def _general(name: str, columns: Sequence[str] = ()) -> Shape:
    """Return the variant of a table with columns guessed by name; a table of ratings needs no event type."""
    rated = any(plain_name(column).lower() == "rating" for column in columns)
    event_type = "rating" if rated else "click" if name == "recbole" else ""
    return Shape(format=name, columns={}, event_type=event_type, context=True)


def _columns(table: Table, shape: Shape, options: FileOptions) -> dict[str, str]:
    """Return the column of each field: given by the user, by the format, or of the same name."""
    there = table.columns()
    chosen = {"timestamp" if name == TIME else name: column for name, column in options.columns.items()}
    known = {"timestamp" if name == TIME else name: column for name, column in shape.columns.items()}
    guessed = guess_columns(there, _FIELDS) if shape.context and shape.expand is None else {}
    columns = guessed | known | chosen
    if unknown := [name for name in chosen if name not in _FIELDS]:
        raise UsageError(f"--columns: unknown field {', '.join(unknown)}; choose from {', '.join(_FIELDS)}")
    if absent := [column for column in chosen.values() if column not in there]:
        raise UsageError(f"{table.path}: no column {', '.join(absent)}; columns: {', '.join(there) or 'none'}")
    missing = [name for name in _REQUIRED if name not in columns]
    if "event_type" in missing and (options.event_type or shape.event_type):
        missing.remove("event_type")
    if missing:
        hint = "--event-type click" if missing == ["event_type"] else f"--columns {missing[0]}=COLUMN"
        raise UsageError(
            f"{table.path}: no column {', '.join(missing)}; columns: {', '.join(there) or 'none'} (set it with {hint})"
        )
    return columns


def _plain(value: object) -> str | int | float | bool:
    """Convert a value for a context."""
    if isinstance(value, (str, int, float, bool)):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)
