"""Reading files of past events: Parquet, CSV or JSON Lines, a bounded number of rows at a time.

The columns are `user_id, item_id, event_type, timestamp` (Unix milliseconds, UTC), perhaps `value`, and any others.
`items.parquet` beside the file says what is known of the items.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from streamrec.contracts.incoming import Click, Item, Purchase
from streamrec.errors import UsageError

REQUIRED_COLUMNS = ("user_id", "item_id", "event_type", "timestamp")
CLICK_TYPES = frozenset({"view", "click", "favourite", "add_to_cart", "rating"})
PURCHASE_TYPES = frozenset({"purchase"})
UNREADABLE = "unreadable row"

BATCH_ROWS = 8_192
"""Rows that are in memory at a time; a Parquet file is decoded one row group after the other."""

_DIGEST_BYTES = 12
_CHUNK_BYTES = 1 << 20
_NO_CONTEXT = frozenset({*REQUIRED_COLUMNS, "value"})
_PURCHASE_FIELDS = {"quantity": "quantity", "unit_price": "price", "basket_id": "order_id"}

Row = Mapping[str, Any]


class FileEvent(NamedTuple):
    """A row as a message, or why it is none."""

    row: int
    """Number of the row in the file, from 0."""
    message: Click | Purchase | None
    skipped: str = ""
    """The event type that is not mapped, or `UNREADABLE`."""


@dataclass(frozen=True, slots=True)
class EventFile:
    """A file of past events.

    Parameters
    ----------
    path
        The file.
    digest
        Names its content: the same bytes have the same event ids wherever they lie.
    rows
        Number of rows.
    """

    path: Path
    digest: str
    rows: int

    @classmethod
    def open(cls, path: Path) -> EventFile:
        """Look at a file, or at the `events.*` file of a folder.

        Raises
        ------
        UsageError
            If there is no such file, its format is not known, or a column is missing.
        """
        file = _find(path)
        if file.suffix not in _READERS:
            raise UsageError(f"{file}: a file of events ends in {', '.join(_READERS)}")
        digest, lines = _scan(file)
        with _readable(file):
            first = next(_READERS[file.suffix](file, 0), None)
        columns = first if first is not None else _columns(file)
        missing = [name for name in REQUIRED_COLUMNS if name not in columns]
        if missing:
            raise UsageError(f"{file}: no column {', '.join(missing)}; there are {', '.join(columns) or 'none'}")
        return cls(file, digest, _rows(file, lines))

    @property
    def items_path(self) -> Path | None:
        """The catalogue beside the file, where there is one."""
        items = self.path.parent / "items.parquet"
        return items if items.is_file() else None

    def events(self, *, skip: int = 0, limit: int | None = None, category_of: Mapping[str, str]) -> Iterator[FileEvent]:
        """Read rows in their order.

        Parameters
        ----------
        skip, limit
            Leave out so many rows, and stop after so many more.
        category_of
            Category by item id, for events of a file that has no column `category`.
        """
        with _readable(self.path):
            rows = islice(_READERS[self.path.suffix](self.path, skip), limit)
            for number, row in enumerate(rows, start=skip):
                yield self._event(number, row, category_of)

    def _event(self, number: int, row: Row, category_of: Mapping[str, str]) -> FileEvent:
        event_type = row.get("event_type")
        if event_type not in CLICK_TYPES and event_type not in PURCHASE_TYPES:
            return FileEvent(number, None, str(event_type))
        try:
            item_id = _id(row["item_id"])
            known: dict[str, Any] = {
                "user_id": _id(row["user_id"]),
                "item_id": item_id,
                "event_time_ms": int(row["timestamp"]),
                "event_id": f"{self.digest}:{number}",
                "category": _text(row.get("category")) or category_of.get(item_id),
            }
            if event_type in PURCHASE_TYPES:
                return FileEvent(number, Purchase(**known, **_purchase_fields(row)))
        except (KeyError, TypeError, ValueError):
            return FileEvent(number, None, UNREADABLE)
        return FileEvent(number, Click(**known, context=_context(row, _NO_CONTEXT)))


def read_items(path: Path) -> Iterator[Item]:
    """Read a catalogue of items.

    Columns: `item_id`, and of `category_id`, `category`, `genres`, `title`, `price`, `median_price` what there is.

    Raises
    ------
    UsageError
        If it cannot be read or has no column `item_id`.
    """
    with _readable(path):
        for row in _parquet_rows(path, 0):
            if "item_id" not in row:
                raise UsageError(f"{path}: no column item_id; there are {', '.join(row)}")
            category = next(
                (row[name] for name in ("category_id", "category", "genres") if row.get(name) is not None), None
            )
            price = row.get("price", row.get("median_price"))
            yield Item(
                item_id=_id(row["item_id"]),
                category=_text(category),
                title=_text(row.get("title")),
                price=None if price is None else float(price),
            )


def _find(path: Path) -> Path:
    if path.is_dir():
        for suffix in _READERS:
            if (path / f"events{suffix}").is_file():
                return path / f"events{suffix}"
        raise UsageError(f"{path}: no events{', events'.join(_READERS)} in this folder")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return path


def _scan(file: Path) -> tuple[str, int]:
    """Return the digest of a file and the number of its lines."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    lines, last = 0, b"\n"
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return digest.hexdigest(), lines + (last != b"\n")


def _rows(file: Path, lines: int) -> int:
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as parquet:
            return int(parquet.metadata.num_rows)
    return max(0, lines - 1) if file.suffix == ".csv" else lines


def _columns(file: Path) -> list[str]:
    """Return the columns of a file without rows."""
    if file.suffix == ".parquet":
        return list(pq.read_schema(file).names)
    if file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as stream:
            return next(csv.reader(stream), [])
    return []


def _parquet_rows(file: Path, skip: int) -> Iterator[Row]:
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(BATCH_ROWS):
            # slicing is free, and rows become Python objects only here
            yield from batch.slice(min(skip, len(batch))).to_pylist()
            skip = max(0, skip - len(batch))


def _csv_rows(file: Path, skip: int) -> Iterator[Row]:
    with file.open(newline="", encoding="utf-8") as stream:
        yield from islice(csv.DictReader(stream, restkey="more"), skip, None)


def _json_rows(file: Path, skip: int) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    with file.open("rb") as stream:
        for line in islice(stream, skip, None):
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                yield {}


_READERS = {".parquet": _parquet_rows, ".csv": _csv_rows, ".jsonl": _json_rows}


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file}: {error}") from error


def _id(value: object) -> str:
    """Return an id as text: a whole number or a string, as in the source."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(value)


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _purchase_fields(row: Row) -> dict[str, Any]:
    """Return what a purchase says beyond a click; the contract judges the values."""
    fields: dict[str, Any] = {}
    if row.get("quantity") not in (None, ""):
        fields["quantity"] = int(row["quantity"])
    if row.get("unit_price") not in (None, ""):
        fields["price"] = float(row["unit_price"])
    fields["order_id"] = _text(row.get("basket_id"))
    fields["context"] = _context(row, _NO_CONTEXT | _PURCHASE_FIELDS.keys())
    return fields


def _context(row: Row, without: Iterable[str]) -> dict[str, Any] | None:
    context = {
        name: value if isinstance(value, (str, int, float, bool)) else str(value)
        for name, value in row.items()
        if name not in without and name != "category" and value not in (None, "")
    }
    return context or None
