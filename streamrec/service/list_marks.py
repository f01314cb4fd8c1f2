"""Rules for rebuilding lists.

A list is rebuilt if it is short although more items are known now, or if it was made by a version that had learned much
less than the stream contains. Each written list is marked with how it was made, so that no scan over all lists is
needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from streamrec.contracts.derived import TopKList
from streamrec.contracts.model_update import Rollbacks

TOLERATED_EVENTS = 64
TOLERATED_SHARE = 0.02
"""Maximum number of records in the stream that a version may lack to make good lists."""

FAR_BEHIND_SHARE = 0.5
"""A list is far behind if its version lacked this share of the current stream."""

YOUNG_EVENTS = 2_000_000
"""While the history is shorter than half of this, lists count as far behind earlier, if the stream is quiet."""


class Knowledge(NamedTuple):
    """What the serving version has learned.

    Attributes
    ----------
    version
        Name, empty before the first version.
    events
        Number of events that it has learned.
    contains
        Next offset by partition of `user-interests`: it has learned every record below it. `None` if the trainer does
        not report it, so that it is unknown what the version lacks.
    rollbacks
        Number of rollbacks before this version, and their targets; `None` if not reported.
    """

    version: str = ""
    events: int = 0
    contains: Mapping[int, int] | None = None
    rollbacks: Rollbacks | None = None


class Made(StrEnum):
    """How a list was made."""

    COMPLETE = "complete"
    """By a version that had learned the whole stream."""
    BEHIND = "behind"
    """By a version that lacked the newest events, as always in a busy stream."""
    POOR = "poor"
    """By a version that lacked too much, or was rolled back."""


class Mark(NamedTuple):
    """The mark of a list.

    Attributes
    ----------
    score
        For a poor list the production time of its newest event, Unix milliseconds; for others the number of events that
        the version had learned.
    short_at
        For a list with fewer items than requested, the number of items that could be listed when it was made; else
        `None`.
    """

    user_id: str
    made: Made
    score: float
    short_at: int | None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that the marks are compared with; stored beside them by recall.

    Attributes
    ----------
    version
        The serving version.
    events, lacking
        Number of events it has learned, and of records of `user-interests` it lacks; a record holds one or a few
        events.
    known_items, other_items
        Number of items that can be listed: known to it, and known only from the stream and the catalogue.
    top_k
        Requested number of items.
    quiet
        Whether there were no new events for a while.
    waiting_since_ms
        Since when lists have been waiting, Unix milliseconds, 0 if none is.
    rollbacks
        Number of rollbacks included in the marks; `None` if not reported.
    """

    version: str = ""
    events: int = 0
    lacking: int = 0
    known_items: int = 0
    other_items: int = 0
    top_k: int = 0
    quiet: bool = False
    waiting_since_ms: int = 0
    rollbacks: int | None = None

    @property
    def items(self) -> int:
        """Number of items that can be listed."""
        return self.known_items + self.other_items

    @property
    def behind_below(self) -> float:
        """A list that is behind is far behind if its version had learned fewer events than this."""
        return _below(self.events + self.lacking, TOLERATED_SHARE if self.quiet else FAR_BEHIND_SHARE)

    @property
    def complete_below(self) -> float:
        """The same for a list that was complete when it was made: its user has been inactive since."""
        events = self.events + self.lacking
        young = max(TOLERATED_SHARE, min(FAR_BEHIND_SHARE, events / YOUNG_EVENTS))
        return _below(events, young if self.quiet else FAR_BEHIND_SHARE)


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """Number of marked lists.

    Attributes
    ----------
    poor, far, short
        Lists that wait to be rebuilt: made by a version that lacked much; by one that is now far behind; with fewer
        items than could be listed. A list may be among the last and one of the others.
    behind, complete, all_short
        All lists with these marks, waiting or not.
    """

    poor: int = 0
    far: int = 0
    short: int = 0
    behind: int = 0
    complete: int = 0
    all_short: int = 0

    @property
    def waiting(self) -> int:
        """Number of lists that wait to be rebuilt."""
        return self.poor + self.far + self.short


def lacking(knowledge: Knowledge, ends: Mapping[int, int]) -> int:
    """Return the number of records of `user-interests` that a version lacks, `None` if not reported.

    Parameters
    ----------
    ends
        Offset below which lists were made, by partition; other partitions are assumed to be similar.
    """
    if knowledge.contains is None or not ends:
        return 0
    missing = sum(max(0, end - knowledge.contains.get(partition, 0)) for partition, end in ends.items())
    return round(missing * max(1.0, len(knowledge.contains) / len(ends)))


def is_tolerable(events: int, lacking: int) -> bool:
    """Return whether a version with these numbers of learned and missing events makes good lists."""
    return lacking <= max(TOLERATED_EVENTS, TOLERATED_SHARE * (events + lacking))


def is_undone(made_by: Knowledge, now: Knowledge) -> bool:
    """Return whether the version that made lists was rolled back meanwhile."""
    return now.rollbacks != made_by.rollbacks


def marks_of(lists: Sequence[TopKList], *, made: Made, knowledge: Knowledge, top_k: int, items: int) -> list[Mark]:
    """Return the marks of lists made by the same version.

    Parameters
    ----------
    items
        Number of items that could be listed.
    """
    return [
        Mark(
            topk.user_id,
            made,
            topk.produced_at_ms if made is Made.POOR else knowledge.events,
            None if len(topk.items) >= top_k else items,
        )
        for topk in lists
    ]


def _below(events: int, share: float) -> float:
    return events - max(TOLERATED_EVENTS, share * events)
