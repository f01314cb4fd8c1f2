"""Reading complete sequence files for evaluations that need all events in memory.

Supported columns:

- `user_id, item_id, timestamp` (Unix milliseconds), optionally `event_type`: events;
- `user_id, item_id, pos`, optionally `timestamp`: events in known order, 0 is the oldest;
- `session_id, item_id, period`, optionally `timestamp`: sessions in time slices, rows ordered by time;
- a text file, optionally compressed with zstd, with one line per user: `user item item ...`, oldest first;
- any other event file that `event_files` supports, with the events that the contract accepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from streamrec.adapters.event_files import EventFile, NoEvent, guess_unit, kind_of, milliseconds
from streamrec.domain.event import EventType
from streamrec.domain.feedback import DEFAULT_WEIGHTS
from streamrec.errors import UsageError

TABLES = (".parquet", ".csv", ".jsonl")
TEXTS = (".txt", ".txt.zst")

_LOOKED_AT = 1_000
_EARLIEST_S = 600_000_000
"""Seconds from 1970 to 1989: smaller numbers are not times in any unit, but positions."""


@dataclass(frozen=True, slots=True)
class SequenceFile:
    """Events in chronological order.

    Attributes
    ----------
    path
        The file.
    groups
        Index of each event's user or session, `(E,)`, int64.
    items
        Index of its item, `(E,)`, int64.
    item_ids
        Item id by index.
    times_ms
        Event times, or `None` if the file lacks any, `(E,)`, int64.
    periods
        Index of the time slice, `(E,)`, int64.
    """

    path: Path
    groups: np.ndarray
    items: np.ndarray
    item_ids: list[str]
    times_ms: np.ndarray | None = None
    periods: np.ndarray | None = None


def read_users(path: Path) -> SequenceFile:
    """Read the sequences of users, from a file or its folder.

    Raises
    ------
    UsageError
        If there is no such file, it cannot be read, or a column is missing.
    StreamrecError
        If the contract accepts too few of its events.
    """
    file = _find(path, ("sequences", "*.txt", "*.txt.zst", "events"), others=True)
    if file.name.endswith(TEXTS):
        return _lines(file)
    table = _table(file) if file.name.endswith(TABLES) else None
    if table is None or not {"user_id", "item_id"} <= set(table.column_names):
        return _events(EventFile.open(file))
    _require(file, table, ["user_id", "item_id"])
    if "pos" not in table.column_names:
        _require(file, table, ["timestamp"])
        if "event_type" in table.column_names:
            types = pc.cast(table["event_type"], pa.string())
            taken = [each for each in types.unique().to_pylist() if _is_liked(kind_of(each))]
            table = table.filter(pc.is_in(types, pa.array(taken, pa.string())))
    times_ms = _times(table)
    key = _integers(file, table, "pos") if "pos" in table.column_names else times_ms
    if key is None:
        raise UsageError(f"{file}: column timestamp has empty values")
    order = np.argsort(key, kind="stable")
    groups, _ = _numbered(table, "user_id")
    items, item_ids = _numbered(table, "item_id")
    return SequenceFile(file, groups[order], items[order], item_ids, times_ms if times_ms is None else times_ms[order])


def _is_liked(kind: EventType | NoEvent) -> bool:
    """Return whether events of a kind say that a user likes the item."""
    return isinstance(kind, EventType) and DEFAULT_WEIGHTS[kind] > 0


def read_sessions(path: Path) -> SequenceFile:
    """Read sessions in time slices, from a file or its folder.

    Raises
    ------
    UsageError
        If there is no such file, it cannot be read, or a column is missing.
    """
    file = _find(path, ("sessions",))
    if file.name.endswith(TEXTS):
        raise UsageError(f"{file}: sessions need the columns session_id, item_id, period")
    table = _table(file)
    _require(file, table, ["session_id", "item_id", "period"])
    periods = _integers(file, table, "period")
    order = np.argsort(periods, kind="stable")
    groups, _ = _numbered(table, "session_id")
    items, item_ids = _numbered(table, "item_id")
    times_ms = _times(table)
    return SequenceFile(
        file,
        groups[order],
        items[order],
        item_ids,
        times_ms if times_ms is None else times_ms[order],
        periods[order],
    )


def _find(path: Path, names: tuple[str, ...], *, others: bool = False) -> Path:
    if path.is_file():
        if not others and not path.name.endswith(TABLES + TEXTS):
            raise UsageError(f"{path}: a file of sequences ends in {', '.join(TABLES + TEXTS)}")
        return path
    if not path.is_dir():
        raise UsageError(f"{path}: no such file")
    for name in names:
        found = sorted(path.glob(name) if "*" in name else (path / f"{name}{suffix}" for suffix in TABLES))
        for file in found:
            if file.is_file():
                return file
    looked = (name if "*" in name else f"{name}{{{','.join(TABLES)}}}" for name in names)
    raise UsageError(f"{path}: no {', '.join(looked)} in this folder")


def _table(file: Path) -> pa.Table:
    try:
        if file.suffix == ".parquet":
            return pq.read_table(file)
        if file.suffix == ".csv":
            return pyarrow.csv.read_csv(file)
        return pyarrow.json.read_json(file)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{file}: {error}") from error


def _require(file: Path, table: pa.Table, columns: list[str]) -> None:
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise UsageError(f"{file}: no column {', '.join(missing)}; columns: {', '.join(table.column_names)}")
    for name in columns:
        if name != "timestamp" and table[name].null_count:
            raise UsageError(f"{file}: column {name} has empty values")


def _numbered(table: pa.Table, name: str) -> tuple[np.ndarray, list[str]]:
    """Return an index for each value, by first occurrence, and the values as text."""
    column = table[name].combine_chunks()
    if not isinstance(column, pa.DictionaryArray):
        column = column.dictionary_encode()
    numbers = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers, [str(value) for value in column.dictionary.to_pylist()]


def _integers(file: Path, table: pa.Table, name: str) -> np.ndarray:
    try:
        numbers: np.ndarray = pc.cast(table[name], pa.int64()).to_numpy()
    except pa.ArrowException as error:
        raise UsageError(f"{file}: column {name}: {error}") from error
    return numbers


def _times(table: pa.Table) -> np.ndarray | None:
    if "timestamp" not in table.column_names or table["timestamp"].null_count:
        return None
    column = table["timestamp"]
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = pc.cast(pc.cast(column, pa.timestamp("ms"), safe=False), pa.int64())
    try:
        times: np.ndarray = pc.cast(column, pa.int64()).to_numpy()
    except pa.ArrowException as error:
        raise UsageError(f"column timestamp: {error}") from error
    if len(times) and abs(np.median(times)) < _EARLIEST_S:
        return times  # positions, not times
    return milliseconds(times, guess_unit(times[:_LOOKED_AT].tolist()))


def _events(file: EventFile) -> SequenceFile:
    """Read a file in another format, event by event."""
    users: dict[str, int] = {}
    numbers: dict[str, int] = {}
    rows = [
        (
            users.setdefault(message.user_id, len(users)),
            numbers.setdefault(message.item_id, len(numbers)),
            message.event_time_ms,
        )
        for _, message, *_ in file.events(category_of={})
        if message is not None
    ]
    file.tally.check(file.path)
    groups, items, times_ms = np.array(rows, np.int64).T
    order = np.argsort(times_ms, kind="stable")
    return SequenceFile(file.path, groups[order], items[order], list(numbers), times_ms[order])


def _lines(file: Path) -> SequenceFile:
    numbers: dict[str, int] = {}
    groups, items = [], []
    try:
        with pa.input_stream(str(file), compression="detect") as stream:
            lines = stream.read().decode().splitlines()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from error
    for line_number, line in enumerate(lines):
        _, *item_ids = line.split() or [""]
        groups += [line_number] * len(item_ids)
        items += [numbers.setdefault(item_id, len(numbers)) for item_id in item_ids]
    return SequenceFile(file, np.array(groups, np.int64), np.array(items, np.int64), list(numbers))
