"""State of groups derived from consecutive polls: stalled positions, lost records, lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamrec.adapters.kafka.group_lag import GroupLag, Lag
from streamrec.adapters.kafka.lag import GROUPS
from streamrec.adapters.kafka.offsets import Partitions
from streamrec.service.batch import TopicPartition

STALLED_S = 120.0
"""A position that has not moved for this long while records wait is stalled."""


@dataclass(slots=True)
class GroupState:
    """State of a group.

    Parameters
    ----------
    name
        Name of the group.
    ours
        Whether it belongs to the pipeline.
    members
        Number of members.
    lag
        Offsets from the first waiting record to the end, over all partitions; 0 if, and only if, none waits.
    behind_s
        Age of the oldest waiting record, 0 if none waits; `None` if none of them was read yet.
    stalled_s
        Longest time that a position has been stalled.
    lost
        Records deleted by retention before they were read.
    beyond_end
        Partitions that end before the position: re-created, or emptied.
    leaderless
        Partitions without a leader, whose state is unknown.
    unassigned
        Partitions assigned to no member.
    missing
        Topics of the group that do not exist.
    partitions
        The underlying offsets.
    standing_s
        Stalled time of each partition.
    """

    name: str
    ours: bool
    members: int
    lag: int
    behind_s: float | None
    stalled_s: float
    lost: int
    beyond_end: int
    leaderless: int
    unassigned: Sequence[TopicPartition]
    missing: Sequence[str]
    partitions: GroupLag
    standing_s: np.ndarray


@dataclass(slots=True)
class _Seen:
    """Last poll of a group, in the order of the cluster's partitions."""

    committed: np.ndarray
    moved_s: np.ndarray


class GroupWatch:
    """Compares the offsets of groups with those of the previous poll."""

    def __init__(self) -> None:
        self._partitions: Partitions | None = None
        self._seen: dict[str, _Seen] = {}

    def look(self, lag: Lag, now_s: float) -> list[GroupState]:
        """Return the state of each group, those of the pipeline first.

        Parameters
        ----------
        lag
            Current offsets from the broker.
        now_s
            Monotonic time.
        """
        if lag.partitions is not self._partitions:
            self._partitions, self._seen = lag.partitions, {}
        self._seen = {name: self._seen.get(name) or _unseen(len(lag.partitions), now_s) for name in lag.groups}
        states = [self._state(name, group, lag, now_s) for name, group in lag.groups.items()]
        return sorted(states, key=lambda state: (not state.ours, state.name))

    def _state(self, name: str, group: GroupLag, of: Lag, now_s: float) -> GroupState:
        seen, index, lag = self._seen[name], group.index, group.lag
        moved = (seen.committed[index] != group.committed) | (lag == 0)
        seen.moved_s[index[moved]] = now_s
        seen.committed[index] = group.committed
        standing_s = now_s - seen.moved_s[index]
        is_led = group.end >= 0
        known = (group.committed >= 0) & is_led
        lost = np.where(known, np.maximum(group.start - group.committed, 0), 0)
        return GroupState(
            name=name,
            ours=name in GROUPS,
            members=group.members,
            lag=int(lag.sum()),
            behind_s=_oldest(group.behind_s(of.at_ms), waits=bool(lag.any())),
            stalled_s=float(standing_s.max(initial=0.0)),
            lost=int(lost.sum()),
            # consumers of uncommitted records may be beyond the stable end
            beyond_end=int((known & (group.committed > of.high[index])).sum()),
            leaderless=int((~is_led).sum()),
            unassigned=group.unassigned,
            missing=[topic for topic in GROUPS.get(name, ()) if topic not in of.partitions.topics],
            partitions=group,
            standing_s=standing_s,
        )


def _unseen(size: int, now_s: float) -> _Seen:
    return _Seen(np.full(size, -2, np.int64), np.full(size, now_s))


def _oldest(behind_s: np.ndarray[Any, Any], *, waits: bool) -> float | None:
    """Return the greatest known age; NaN entries were not read yet."""
    read = behind_s[np.isfinite(behind_s)]
    oldest = float(read.max(initial=0.0))
    return None if waits and not oldest and len(read) < len(behind_s) else oldest
