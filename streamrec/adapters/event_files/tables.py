"""Tables in files: Parquet, delimited text and JSON Lines, uncompressed or compressed, read in bounded chunks.

The kind of a file is detected from its first bytes, not its name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from streamrec.errors import UsageError

UNREADABLE = "unreadable row"

BATCH_ROWS = 8_192
"""Rows per chunk; Parquet files are decoded by row group."""

MAX_LINE_BYTES = 16 << 20
"""Maximum length of a JSON line: longer than any event or session."""

EXTRA = "more"
"""Column of excess cells of a line."""

_LOOKED_AT = 1_000
_DIGEST_BYTES = 12
_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 1 << 16
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SEPARATORS = ("\t", ",", ";", "|")
_UNIT_SEPARATOR = "\x1f"
"""Replaces a multi-character separator, which the standard reader does not support."""

Row = Mapping[str, Any]
NumberedRow = tuple[int, Row | None]
"""The number of a row, from 0, and the row; `None` if it cannot be read."""


@dataclass(frozen=True, slots=True)
class Table:
    """How to read a file as a table.

    Parameters
    ----------
    path
        The file.
    kind
        `parquet`, `json` or `text`.
    packed
        `gzip`, `zstd`, or empty.
    separator, quoted
        Of text: the separator between cells, and whether cells may be quoted.
    header
        Of text without a header line: names of its columns.
    """

    path: Path
    kind: str
    packed: str = ""
    separator: str = ","
    quoted: bool = True
    header: tuple[str, ...] = ()

    def rows(self, skip: int = 0) -> Iterator[NumberedRow]:
        """Read all rows after the skipped ones."""
        with readable(self.path):
            yield from {"parquet": self._parquet, "json": self._json, "text": self._text}[self.kind](skip)

    def columns(self) -> list[str]:
        """Return the column names, for JSON those of the first rows."""
        with readable(self.path):
            if self.kind == "parquet":
                return list(pq.read_schema(self.path).names)
            if self.kind == "json":
                rows = (row for _, row in islice(self._json(0), _LOOKED_AT) if row)
                return list(dict.fromkeys(name for row in rows for name in row))
            return list(self.header) or next(self._lines(), [])

    def scan(self) -> tuple[str, int]:
        """Return the digest of the uncompressed content, and the approximate number of rows."""
        digest = blake2b(digest_size=_DIGEST_BYTES)
        lines, last = 0, b"\n"
        with readable(self.path), self._stream() as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                lines += chunk.count(b"\n")
                last = chunk[-1:]
        lines += last != b"\n"
        if self.kind == "parquet":
            with readable(self.path), pq.ParquetFile(self.path) as parquet:
                return digest.hexdigest(), int(parquet.metadata.num_rows)
        return digest.hexdigest(), lines - (self.kind == "text" and not self.header and lines > 0)

    def head(self) -> bytes:
        """Return the first uncompressed bytes."""
        with readable(self.path), self._stream() as stream:
            return stream.read(_HEAD_BYTES)

    @contextmanager
    def _stream(self) -> Iterator[BinaryIO]:
        with self.path.open("rb") as raw:
            if not self.packed:
                yield raw
                return
            unpacked: Any = pa.CompressedInputStream(raw, cast("Any", self.packed))
            with io.BufferedReader(unpacked) as stream:
                yield stream

    def _parquet(self, skip: int) -> Iterator[NumberedRow]:
        number = 0
        with pq.ParquetFile(self.path) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS):
                # slicing is free; rows become Python objects only here
                first = min(max(0, skip - number), len(batch))
                yield from enumerate(_with_instants(batch.slice(first)).to_pylist(), start=number + first)
                number += len(batch)

    def _json(self, skip: int) -> Iterator[NumberedRow]:
        decoder = msgspec.json.Decoder(dict[str, Any])
        with self._stream() as stream:
            number = -1
            while line := stream.readline(MAX_LINE_BYTES):
                number += 1
                whole = line.endswith(b"\n") or len(line) < MAX_LINE_BYTES
                while not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
                    line = stream.readline(MAX_LINE_BYTES)
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
                if number < skip or not line.strip():
                    continue
                try:
                    yield number, decoder.decode(line) if whole else None
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    yield number, None

    def _text(self, skip: int) -> Iterator[NumberedRow]:
        lines = self._lines()
        names = list(self.header) or next(lines, [])
        for number, cells in enumerate(lines):
            if number >= skip:
                # a trailing separator is common, and not a cell
                surplus = [cell for cell in cells[len(names) :] if cell]
                bad = len(cells) < len(names) and len(cells) <= 1
                row: dict[str, Any] = dict(zip(names, cells, strict=False))
                yield number, None if bad or not cells else row | ({EXTRA: " ".join(surplus)} if surplus else {})

    def _lines(self) -> Iterator[list[str]]:
        """Return the stripped cells of each line; `None` for a line that cannot be read."""
        encoding = "utf-16" if self.head().startswith(_UTF_16) else "utf-8-sig"
        # undecodable bytes stay in their cell, and the contract refuses that row
        with (
            self._stream() as stream,
            io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="") as text,
        ):
            long = len(self.separator) > 1
            lines = (line.replace(self.separator, _UNIT_SEPARATOR) for line in text) if long else text
            reader = csv.reader(
                lines,
                delimiter=_UNIT_SEPARATOR if long else self.separator,
                quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
                skipinitialspace=self.separator != "\t",
            )
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    yield []
                    continue
                if cells:  # skip empty lines
                    yield [cell.strip() for cell in cells]


def look(path: Path, *, separator: str = "") -> Table:
    """Inspect a file, and return how to read it; text is assumed to have a header line.

    Raises
    ------
    UsageError
        If it is empty, or of an unsupported kind.
    """
    with readable(path), path.open("rb") as stream:
        start = stream.read(4)
    packed = next((name for magic, name in _PACKED.items() if start.startswith(magic)), "")
    if start.startswith(b"PAR1"):
        return Table(path, "parquet")
    if start.startswith(b"PK"):
        raise UsageError(f"{path}: a ZIP archive; unpack it first (.gz and .zst can be read directly)")
    head = Table(path, "text", packed).head()
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"":
        raise UsageError(f"{path}: the file is empty")
    if first == b"[":
        raise UsageError(f"{path}: a single JSON array; one object per line is required (convert with jq -c '.[]')")
    if first == b"{":
        return Table(path, "json", packed)
    text = head.decode("utf-16", "replace") if head.startswith(_UTF_16) else head.decode(errors="replace")
    return Table(path, "text", packed, separator=separator or _separator_of(text.split("\n", 1)[0]))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Convert errors in a file to a `UsageError` that names it."""
    try:
        yield
    except (OSError, pa.ArrowException, csv.Error, UnicodeError) as error:
        raise UsageError(f"{path}: {error}") from error


def _separator_of(line: str) -> str:
    if "::" in line:
        return "::"
    return max(_SEPARATORS, key=line.count) if any(each in line for each in _SEPARATORS) else ","


def _with_instants(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with times and dates as millisecond timestamps."""
    if not any(pa.types.is_timestamp(field.type) or pa.types.is_date(field.type) for field in batch.schema):
        return batch
    instant = pa.timestamp("ms", "UTC")
    columns: Sequence[Any] = [
        column.cast(pa.timestamp("ms")).cast(instant)
        if pa.types.is_date(column.type)
        else column.cast(instant, safe=False)
        if pa.types.is_timestamp(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
