"""Whether the pipeline keeps up, and what keeps it from doing so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamrec.monitor.groups import STALLED_S, GroupState

BLIND_S = 15.0
"""What was read so long ago says nothing of now."""


def causes(
    groups: Sequence[GroupState], faults: Mapping[str, str], *, read_s_ago: float | None, lag_limit_s: float
) -> list[str]:
    """Return why the pipeline does not keep up, nothing if it does.

    Parameters
    ----------
    groups
        How the groups did when they were read last.
    faults
        By server that does not answer, what it said instead.
    read_s_ago
        How long ago the groups were read; `None` if they never were.
    lag_limit_s
        The oldest record that waits may be so old.
    """
    found = [f"{server} does not answer: {fault}" for server, fault in faults.items()]
    if read_s_ago is None:
        return found if "Kafka" in faults else [*found, "the groups were not read yet"]
    if read_s_ago > BLIND_S and "Kafka" not in faults:
        found.append(f"the groups were read {read_s_ago:.0f} s ago")
    for group in groups:
        if group.ours:
            found += _causes_in(group, lag_limit_s)
    return found


def _causes_in(group: GroupState, lag_limit_s: float) -> list[str]:
    found = []
    if group.missing:
        found.append(f"{group.name} reads topics that are not there: {', '.join(group.missing)}")
    if not group.members:
        found.append(f"{group.name} has no member: nobody works")
    if group.behind_s is not None and group.behind_s > lag_limit_s:
        found.append(f"{group.name} is {group.behind_s:.0f} s behind, more than {lag_limit_s:g} s")
    if group.stalled_s > STALLED_S:
        found.append(f"{group.name} has stood still for {group.stalled_s:.0f} s while records wait")
    if group.leaderless:
        found.append(f"{group.name} waits for {group.leaderless} partitions that no broker leads")
    if group.beyond_end:
        found.append(f"{group.name} has read beyond the end of {group.beyond_end} partitions: topics were made anew")
    return found
