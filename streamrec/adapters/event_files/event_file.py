"""A file of past events, read as messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from streamrec.adapters.event_files.event_types import NoEvent
from streamrec.adapters.event_files.formats import HEADERS, FileOptions
from streamrec.adapters.event_files.judge import judge
from streamrec.adapters.event_files.rows import RowReader
from streamrec.adapters.event_files.tables import UNREADABLE, Row, Table
from streamrec.adapters.event_files.tally import SHOWN_CHARACTERS, Example, FileTally
from streamrec.contracts.incoming import Click, Feedback, Purchase
from streamrec.errors import UsageError

SUFFIXES = (".parquet", ".csv", ".jsonl", ".tsv", ".dat", ".inter", ".ndjson", ".json")
PACKED = ("", ".gz", ".zst")
_FOUND_BY_NAME = ("behaviors.tsv", "ratings.csv", "ratings.dat", "transactions_train.csv", "*.inter")
"""Names of event files in known formats."""


class FileEvent(NamedTuple):
    """A row as a message, or the reason why it was skipped."""

    row: int
    """Number of the row in the file, from 0."""
    message: Click | Purchase | Feedback | None
    skipped: str = ""
    """Why it was skipped: an event type, a reason of the contract, or `UNREADABLE`."""
    headers: Mapping[str, bytes] = {}
    """Headers with the event's id, if the file is a dump of records."""


@dataclass(frozen=True, slots=True)
class EventFile:
    """A file of past events.

    Parameters
    ----------
    path
        The file.
    digest
        Digest of the uncompressed content: the same content has the same event ids, wherever the file is.
    rows
        Approximate number of rows.
    table
        The rows.
    reader
        Converts a row.
    tally
        Outcomes of the rows read so far.
    """

    path: Path
    digest: str
    rows: int
    table: Table
    reader: RowReader
    tally: FileTally = field(default_factory=FileTally)

    @classmethod
    def open(cls, path: Path, options: FileOptions | None = None) -> EventFile:
        """Open a file, or the event file in a folder.

        Raises
        ------
        UsageError
            If there is no such file, it cannot be read, or a column is missing.
        """
        file = _find(path)
        table, reader = RowReader.of(file, options or FileOptions())
        return cls(file, *table.scan(), table, reader)

    @property
    def items_path(self) -> Path | None:
        """The item catalogue beside the file, if any."""
        names = [f"items{suffix}{packed}" for suffix in SUFFIXES[:3] for packed in PACKED]
        return next((path for name in names if (path := self.path.parent / name).is_file()), None)

    def events(self, *, skip: int = 0, limit: int | None = None, category_of: Mapping[str, str]) -> Iterator[FileEvent]:
        """Read rows in order, and count their outcomes in `tally`.

        Parameters
        ----------
        skip, limit
            Skip this many rows, and stop after this many more.
        category_of
            Category by item id, for files without a column `category`.
        """
        for number, row in islice(self.table.rows(skip), limit):
            self.tally.rows += 1
            if row is None:
                yield self._refused(UNREADABLE, Example(row=number))
                continue
            for part, each in enumerate(self.reader.expanded(row)):
                event_id = f"{self.digest}:{number}:{part}" if part else f"{self.digest}:{number}"
                yield self._event(number, each, event_id, category_of)

    def _event(self, number: int, row: Row, event_id: str, category_of: Mapping[str, str]) -> FileEvent:
        reader, tally = self.reader, self.tally
        kind, event_type = reader.kind(row)
        if kind is NoEvent.UNKNOWN:
            name = event_type[:SHOWN_CHARACTERS] or "no event type"
            return self._refused(name, reader.example(number, row, "event_type", "unknown event type; see --map"))
        if kind is NoEvent.LEFT_OUT:
            tally.count(tally.left_out, event_type, lambda: reader.example(number, row, "event_type"))
            return FileEvent(number, None, event_type)
        fields = reader.fields(row, kind, event_id)
        item_id = fields.get("item_id")
        if isinstance(item_id, str) and (category := category_of.get(item_id)):
            fields.setdefault("category", category)
        verdict = judge(kind, fields)
        if verdict.message is None:
            return self._refused(verdict.reason, reader.example(number, row, verdict.field, verdict.detail))
        for name in verdict.dropped:
            example = reader.example(number, row, name)
            tally.count(tally.dropped, name, lambda example=example: example)  # type: ignore[misc]
        tally.taken += 1
        return FileEvent(number, verdict.message, headers=row.get(HEADERS, {}))

    def _refused(self, reason: str, example: Example) -> FileEvent:
        self.tally.count(self.tally.refused, reason, lambda: example)
        return FileEvent(example.row, None, reason)


def _find(path: Path) -> Path:
    if path.is_dir():
        named = [f"events{suffix}{packed}" for suffix in SUFFIXES for packed in PACKED]
        for name in (*named, *_FOUND_BY_NAME):
            for file in sorted(path.glob(name)):
                if file.is_file():
                    return file
        raise UsageError(f"{path}: no events{', events'.join(SUFFIXES[:3])} in this folder")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return path
