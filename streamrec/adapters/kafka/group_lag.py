"""Lag of consumer groups, computed from positions and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from streamrec.adapters.kafka.offsets import Offsets, Partitions
from streamrec.service.batch import TopicPartition


class PartitionLag(Struct, frozen=True, kw_only=True):
    """Lag of a group in a partition."""

    group: str
    topic: str
    partition: int
    committed: int | None
    """Next offset to read; `None` if nothing was ever committed."""
    end: int
    """The last stable offset: records beyond it belong to open transactions, or follow them."""
    lag: int
    """Offsets from the first unread record to the end; 0 if, and only if, all records are read."""
    behind_s: float | None
    """Age of the first unread record, 0 without lag; `None` if it could not be read in time."""


@dataclass(slots=True)
class GroupLag:
    """Lag of a group in every partition that it reads.

    Parameters
    ----------
    index
        Ascending indices of the cluster's partitions; the arrays below have the same order.
    committed
        Next offset to read, -1 if nothing was ever committed.
    start, end
        Offset of the oldest record, and the last stable offset.
    since_ms
        Production time of the record at the position, if there is lag; -1 if not read yet.
    members
        Number of members of the group.
    unassigned
        Partitions of the group that are assigned to no member, unless it is rebalancing.
    first_left
        Offset of the first unread record, the end if there is none; -1 if the log was not read.
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
        """Effective positions: deleted records are not lag, and uncommitted partitions are read from the beginning."""
        return np.minimum(np.maximum(np.maximum(self.start, self.committed), self.first_left), self.end)

    @property
    def lag(self) -> Offsets:
        """Offsets between the position and the end: 0 if all records are read, else an upper bound on those unread."""
        return self.end - self.position

    def behind_s(self, now_ms: int) -> np.ndarray:
        """Return the age of the record at each position: 0 without lag, NaN if not read yet."""
        age_s = np.maximum(now_ms - self.since_ms, 0) / 1_000
        return np.where(self.lag == 0, 0.0, np.where(self.since_ms < 0, np.nan, age_s))


class HeldBack(NamedTuple):
    """Records of a topic withheld by open transactions."""

    topic: str
    partitions: int
    records: int
    """Offsets beyond the last stable one."""
    held_s: float | None
    """Age of the oldest of these records; `None` if not read yet."""


@dataclass(slots=True)
class Lag:
    """Snapshot of all groups from the broker.

    Parameters
    ----------
    at_ms
        Time of the snapshot.
    partitions
        The cluster's partitions.
    start, end
        Offset of the oldest record of each, and the last stable offset, the end for consumers of committed records.
    groups
        The groups by name.
    high
        High watermark of each: beyond the stable end are records of open transactions, and those that follow them.
    held_since_ms
        Production time of the record at the stable end, if there are records beyond it; -1 if not read yet.
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
        """Return the records withheld by open transactions, by topic."""
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
        """Return the lag of each partition of a group."""
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
