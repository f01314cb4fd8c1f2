"""What follows from one look at the groups after the other: who stands still, who lost records, who is late."""

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
"""A position that has not moved for so long while records wait is stalled."""


@dataclass(slots=True)
class GroupState:
    """How a group does.

    Parameters
    ----------
    name
        The group.
    ours
        Whether it is one of the pipeline's own.
    members
        Its members.
    lag
        Offsets from the first record that waits up to the end, over all partitions; 0 if, and only if, none waits.
    behind_s
        Age of the oldest record that waits, 0 if none does; `None` if none of those that wait was read yet.
    stalled_s
        For how long the position that has stood still longest has not moved while records waited there.
    lost
        Records that went before they were read: retention was faster.
    beyond_end
        Partitions that end before the position: re-created, or emptied.
    leaderless
        Partitions that no broker leads now, of which nothing can be said.
    unassigned
        Partitions that none of its members is assigned.
    missing
        Topics that it reads and that are not there.
    partitions
        The offsets that this follows from.
    standing_s
        For how long each of them has stood still.
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
    """What was seen of a group, in the order of the cluster's partitions."""

    committed: np.ndarray
    moved_s: np.ndarray


class GroupWatch:
    """Compares what the broker says of groups with what it said before."""

    def __init__(self) -> None:
        self._partitions: Partitions | None = None
        self._seen: dict[str, _Seen] = {}

    def look(self, lag: Lag, now_s: float) -> list[GroupState]:
        """Return how each group does, those of the pipeline first.

        Parameters
        ----------
        lag
            What the broker says now.
        now_s
            A clock that only goes forward.
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
            # whoever reads uncommitted records may be beyond the stable end
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
    """Return the greatest age; those that were not read yet are no younger than the others know."""
    read = behind_s[np.isfinite(behind_s)]
    oldest = float(read.max(initial=0.0))
    return None if waits and not oldest and len(read) < len(behind_s) else oldest
