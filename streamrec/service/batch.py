"""A batch of records with the positions it covers: every use case takes one and answers with the store's positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Record(NamedTuple):
    """A record as it was read: raw bytes.

    `timestamp_ms` is the time of production. Of headers with the same key the last one counts.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass(slots=True)
class Slice:
    """What a batch holds of one partition: every record of the offsets `start` up to and without `next`.

    Offsets may be missing in between (compaction, transaction markers), which is why the range is carried.
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
"""Next offset to read, by partition: what a store holds says which records it contains."""
