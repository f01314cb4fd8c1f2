"""Interpretation of the cells of a row, by the columns of its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from streamrec.adapters.event_files.event_types import NoEvent, kind_of
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
from streamrec.domain.event import EventType
from streamrec.errors import UsageError

OWN = "streamrec"
TIME = "event_time_ms"

_LOOKED_AT = 1_000
"""Number of rows used to guess the time unit and the scale of ratings."""

_SCALES = 1, 5, 10, 100
_STARS = 5

_REQUIRED = ("user_id", "item_id", "event_type", "timestamp")
_IDS = ("user_id", "item_id", "event_id", "list_id", "order_id")
_NUMBERS = ("position", "quantity", "price", "value", "scale")
_FIELDS = (*dict.fromkeys((*_REQUIRED, *_IDS)), *_NUMBERS, "category", "currency")
_PURCHASE_ONLY = ("quantity", "price", "currency", "order_id")
_GRADES, _GRADED = ("value", "scale"), (EventType.RATING, EventType.WATCH)


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
    scale
        The best rating.
    """

    shape: Shape
    columns: Mapping[str, str]
    options: FileOptions
    from_text: bool
    fields_by_column: Mapping[str, str]
    unit: str = "ms"
    guessed: bool = False
    scale: float = _STARS

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
        if not reader._is_own:
            reader = replace(reader, scale=options.best_rating or guess_scale(reader.first(table, "value", rated=True)))
        if options.time_unit or columns["timestamp"] == TIME:
            return table, reader
        return table, replace(reader, unit=guess_unit(reader.first(table, "timestamp")), guessed=True)

    @property
    def said(self) -> str:
        """A description of how the file is read if that was detected, else empty."""
        said = []
        if self.shape.format != OWN:
            found = {name: column for name, column in self.columns.items() if name != column and name in _FIELDS}
            said.append(f"read as {self.shape.format}: " + ", ".join(f"{name} is {it}" for name, it in found.items()))
        if "event_type" not in self.columns and not self.options.event_type:
            said.append(f"every row is read as a {self.shape.event_type}; override with --event-type")
        if self.scale != _STARS:
            said.append(f"ratings are read as up to {self.scale:g}; override with --best-rating")
        if self.guessed and self.unit != "ms":
            said.append(f"times are read as {unit_name(self.unit)}; override with --time-unit")
        return "; ".join(said)

    def expanded(self, row: Row) -> Iterable[Row]:
        """Expand a row."""
        return (row,) if self.shape.expand is None else self.shape.expand(row)

    def kind(self, row: Row) -> tuple[EventType | NoEvent, str]:
        """Return the kind of event that a row is, and its event type.

        A purchase with a negative quantity is a return, and a review without a rating a comment.
        """
        cell = self._cell(row, "event_type")
        event_type = str(as_text(cell)) if cell is not None else self.options.event_type or self.shape.event_type
        if self._is_own and event_type.upper() in EventType.__members__:
            return EventType[event_type.upper()], event_type
        kind = kind_of(event_type, self.options.types)
        if kind is EventType.PURCHASE:
            quantity = as_number(self._cell(row, "quantity"))
            if isinstance(quantity, (int, float)) and quantity < 0:
                kind = EventType.RETURN
        elif event_type.lower() == "review" and self._cell(row, "value") is None:
            kind = EventType.COMMENT
        return kind, event_type

    def fields(self, row: Row, kind: EventType, event_id: str) -> dict[str, Any]:
        """Return the values of a message by field, without fields that the file does not have.

        Parameters
        ----------
        kind
            Kind of event that the row is.
        event_id
            Event id for a row without one.
        """
        fields: dict[str, Any] = {}
        context: dict[str, Any] = {}
        for column, value in row.items():
            name = self.fields_by_column.get(column, "")
            if is_missing(value) or column == HEADERS or (name in _GRADES and kind not in _GRADED):
                continue
            if name and (kind is EventType.PURCHASE or name not in _PURCHASE_ONLY):
                fields[TIME if name == "timestamp" else name] = self._converted(name, value)
            elif column == "context" and isinstance(value, dict):
                context |= value
            else:
                context[column] = _plain(value)
        if kind is EventType.RATING and not self._is_own:
            fields.setdefault("scale", self.scale)
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

    def first(self, table: Table, name: str, *, rated: bool = False) -> list[object]:
        """Return the cells of a field in the first rows, or in those that are ratings, without empty ones."""
        rows = (row for _, row in islice(table.rows(), _LOOKED_AT) if row is not None)
        parts = (each for row in rows for each in self.expanded(row))
        cells = (self._cell(each, name) for each in parts if not rated or self.kind(each)[0] is EventType.RATING)
        return [value for value in cells if value is not None]

    @property
    def _is_own(self) -> bool:
        """Whether rows are messages of the contract, as in a dump of a topic."""
        return self.shape.format == OWN and self.columns.get("event_type", "type") == "type"

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


def guess_scale(ratings: Iterable[object]) -> int:
    """Return the best rating of a scale with these ones: a thumb, 5 stars, 10 points or 100 percent.

    Examples
    --------
    >>> guess_scale([4.0, "3.5"]), guess_scale([7, 9]), guess_scale([0, 1]), guess_scale([])
    (5, 10, 1, 5)
    """
    best = max((each for each in map(as_number, ratings) if isinstance(each, int | float)), default=_STARS)
    return next((scale for scale in _SCALES if best <= scale), _SCALES[-1])
