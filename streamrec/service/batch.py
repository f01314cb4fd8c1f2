"""A batch of records with the positions it covers: use cases take one and return the store's positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from streamrec.errors import BadRecordError


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Fault(NamedTuple):
    """Why a record could not be read, in the terms of :class:`~streamrec.errors.BadRecordError`."""

    reason: str
    detail: str


class Record(NamedTuple):
    """A consumed record: raw bytes.

    `timestamp_ms` is the time of production. Of headers with the same key the last one counts. If `fault` is set, the
    client could not read the whole record: the other fields hold what could be read.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    fault: Fault | None = None

    def check(self) -> None:
        """Raise a `BadRecordError` if the record could not be read completely; call this before decoding."""
        if self.fault is not None:
            raise BadRecordError(*self.fault)


@dataclass(slots=True)
class Slice:
    """The part of a batch from one partition: all records with offsets from `start` to `next`, exclusive.

    Offsets may be missing in between (compaction, transaction markers), so the range is explicit. A partition that was
    never read starts at 0, wherever its log begins now.
    """

    source: TopicPartition
    start: int
    next: int
    records: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """One slice per partition."""

    slices: list[Slice]

    def __len__(self) -> int:
        return sum(len(part.records) for part in self.slices)

    def __iter__(self) -> Iterator[tuple[TopicPartition, Record]]:
        for part in self.slices:
            for record in part.records:
                yield part.source, record


Positions = dict[TopicPartition, int]
"""Next offset to read, by partition: a store's positions determine which records it contains.

A store without a position for a partition contains nothing of it, as if the position were 0: a store emptied under a
running worker sends the worker back to the beginning.
"""


def follow_on(slices: Sequence[Slice], stored: Positions) -> bool:
    """Return whether every slice starts at the store's position of its partition."""
    return all(stored.get(part.source, 0) == part.start for part in slices)


def positions_of(slices: Sequence[Slice], stored: Positions) -> Positions:
    """Return the next offsets in the partitions of these slices."""
    return {part.source: stored.get(part.source, 0) for part in slices}
