"""A batch of records with the positions it covers: every use case takes one and answers with the store's positions."""

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
    """A record as it was read: raw bytes.

    `timestamp_ms` is the time of production. Of headers with the same key the last one counts. Where `fault` is set,
    the client could not read all of the record: the other fields hold what could be read.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    fault: Fault | None = None

    def check(self) -> None:
        """Raise a `BadRecordError` if not all of the record could be read; call it before decoding anything."""
        if self.fault is not None:
            raise BadRecordError(*self.fault)


@dataclass(slots=True)
class Slice:
    """What a batch holds of one partition: every record of the offsets `start` up to and without `next`.

    Offsets may be missing in between (compaction, transaction markers), which is why the range is carried. What was
    never read begins at 0, wherever the log does now.
    """

    source: TopicPartition
    start: int
    next: int
    records: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Slices of different partitions, one for each partition."""

    slices: list[Slice]

    def __len__(self) -> int:
        return sum(len(part.records) for part in self.slices)

    def __iter__(self) -> Iterator[tuple[TopicPartition, Record]]:
        for part in self.slices:
            for record in part.records:
                yield part.source, record


Positions = dict[TopicPartition, int]
"""Next offset to read, by partition: what a store holds says which records it contains.

A store that knows nothing of a partition contains nothing of it, as if its position were 0: one that was emptied under
a running worker sends it back to the beginning.
"""


def follow_on(slices: Sequence[Slice], stored: Positions) -> bool:
    """Return whether every slice starts where the store's position of its partition stands."""
    return all(stored.get(part.source, 0) == part.start for part in slices)


def positions_of(slices: Sequence[Slice], stored: Positions) -> Positions:
    """Return where to read on in the partitions of these slices."""
    return {part.source: stored.get(part.source, 0) for part in slices}
