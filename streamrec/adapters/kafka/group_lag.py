"""How far groups are behind: the figures that follow from positions and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from streamrec.adapters.kafka.offsets import Offsets, Partitions
from streamrec.service.batch import TopicPartition


class PartitionLag(Struct, frozen=True, kw_only=True):
    """How far a group is behind in a partition."""

    group: str
    topic: str
    partition: int
    committed: int | None
    """Next offset to read; `None` if nothing was ever committed."""
    end: int
    """The last stable offset: records behind it belong to open transactions, or follow them."""
    lag: int
    """Offsets from the first record that is left to read up to the end; 0 if, and only if, no record is left."""
    behind_s: float | None
    """Age of the first record that is left to read, 0 without a lag; `None` if it could not be read in time."""


@dataclass(slots=True)
class GroupLag:
    """How far a group is behind, in every partition that it reads.

    Parameters
    ----------
    index
        Which of the cluster's partitions these are, ascending; every array below has their order.
    committed
        Next offset to read, -1 where nothing was ever committed.
    start, end
        Offset of the oldest record, and the last stable offset.
    since_ms
        Time of production of the record at the position, where there is a lag; -1 where it was not read yet.
    members
        How many members the group has.
    unassigned
        Partitions that the group should read and that none of its members is assigned, while it does not rebalance.
    first_left
        Offset of the first record that is left to read, the end where none is; -1 where the log was not read.
    """

    index: Offsets
    committed: Offsets
    start: Offsets
    end: Offsets
    since_ms: Offsets
    members: int
    unassigned: Sequence[TopicPartition] = ()
    first_left: Offsets = field(init=False)

    def __post_init__(self) -> None:
        self.first_left = np.full(len(self.index), -1, np.int64)

    @property
    def position(self) -> Offsets:
        """Where reading continues: what is gone is no lag, and what is not committed is read from the beginning."""
        return np.minimum(np.maximum(np.maximum(self.start, self.committed), self.first_left), self.end)

    @property
    def lag(self) -> Offsets:
        """Offsets between the position and the end: 0 if no record is left, else no less than there are records."""
        return self.end - self.position

    def behind_s(self, now_ms: int) -> np.ndarray:
        """Return the age of the record at each position: 0 without a lag, NaN where it was not read yet."""
        age_s = np.maximum(now_ms - self.since_ms, 0) / 1_000
        return np.where(self.lag == 0, 0.0, np.where(self.since_ms < 0, np.nan, age_s))


class HeldBack(NamedTuple):
    """What an open transaction keeps from everybody who reads a topic."""

    topic: str
    partitions: int
    records: int
    """Offsets behind the last stable one."""
    held_s: float | None
    """Age of the oldest of these records; `None` if it was not read yet."""


@dataclass(slots=True)
class Lag:
    """What the broker says of all groups at one instant.

    Parameters
    ----------
    at_ms
        When that was.
    partitions
        The cluster's partitions.
    start, end
        Offset of the oldest record of each, and the last stable offset, which is the end for whoever reads committed
        records.
    groups
        The groups by name.
    high
        High watermark of each: beyond the stable end there are records of open transactions, and what follows them.
    held_since_ms
        Time of production of the record at the stable end, where records are beyond it; -1 where it was not read yet.
    """

    at_ms: int
    partitions: Partitions
    start: Offsets
    end: Offsets
    groups: dict[str, GroupLag] = field(default_factory=dict)
    high: Offsets = field(init=False)
    held_since_ms: Offsets = field(init=False)

    def __post_init__(self) -> None:
        self.high, self.held_since_ms = self.end, np.full(len(self.end), -1, np.int64)

    def held_back(self) -> list[HeldBack]:
        """Return what open transactions hold back, by topic."""
        found = []
        held = self.high - self.end
        for topic in sorted({self.partitions.sources[index].topic for index in np.flatnonzero(held > 0).tolist()}):
            index = self.partitions.of([topic])
            since_ms = self.held_since_ms[index[held[index] > 0]]
            read = since_ms[since_ms >= 0]
            held_s = max(0, self.at_ms - int(read.min())) / 1_000 if len(read) else None
            found.append(HeldBack(topic, len(since_ms), int(held[index].sum()), held_s))
        return found

    def of(self, group: str) -> list[PartitionLag]:
        """Return the partitions of a group, one by one."""
        found = self.groups[group]
        rows = zip(
            found.index.tolist(),
            found.committed.tolist(),
            found.end.tolist(),
            found.lag.tolist(),
            found.behind_s(self.at_ms).tolist(),
            strict=True,
        )
        return [
            PartitionLag(
                group=group,
                topic=self.partitions.sources[index].topic,
                partition=self.partitions.sources[index].partition,
                committed=None if committed < 0 else committed,
                end=end,
                lag=lag,
                behind_s=None if behind_s != behind_s else round(behind_s, 3),  # noqa: PLR0124  # NaN
            )
            for index, committed, end, lag, behind_s in rows
        ]
