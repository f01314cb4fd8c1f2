"""Which lists are to be made again, and what that depends on.

A list is worth making again where it is short although more items are known by now, or where it was made by a version
that had learned much less than what is in the stream. Each list that is written is marked with how it was made, so that
nothing ever has to look at all lists.
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
"""A version that lacks no more than these, of what is in the stream, makes good lists."""

FAR_BEHIND_SHARE = 0.5
"""A list is far behind if the version that made it lacked so much of what is in the stream now."""

YOUNG_EVENTS = 2_000_000
"""While the history is shorter than half of this, a list counts as far behind sooner, if the stream is quiet."""


class Knowledge(NamedTuple):
    """What the serving version knows.

    Attributes
    ----------
    version
        Its name, empty before the first.
    events
        Number of events that it has learned.
    contains
        Partition of `user-interests` → next offset: it has learned every record below it. `None` where the trainer does
        not say, and nothing can be told of what the version lacks.
    rollbacks
        How often the trainer was rolled back before this version, and to where; `None` where it does not say.
    """

    version: str = ""
    events: int = 0
    contains: Mapping[int, int] | None = None
    rollbacks: Rollbacks | None = None


class Made(StrEnum):
    """How a list was made."""

    COMPLETE = "complete"
    """By a version that had learned all that was in the stream."""
    BEHIND = "behind"
    """By one that lacked the newest events, as every list of a busy stream is."""
    POOR = "poor"
    """By one that lacked more than what is tolerated, or was rolled back."""


class Mark(NamedTuple):
    """What is remembered of a list.

    Attributes
    ----------
    score
        Of a poor list when its newest event was produced, Unix milliseconds; of others how many events the version had
        learned.
    short_at
        Of a list with fewer items than asked for, how many items could be listed when it was made; else `None`.
    """

    user_id: str
    made: Made
    score: float
    short_at: int | None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the marks are compared with; recall keeps it beside them.

    Attributes
    ----------
    version
        The version that serves.
    events, lacking
        How many events it has learned, and how many records of `user-interests` it has not; a record holds one event or
        a few.
    known_items, other_items
        How many items can be listed: those that it knows, and those of the stream and the catalogue that it does not.
    top_k
        Items asked for.
    quiet
        Whether nothing new came for a while.
    waiting_since_ms
        Since when lists have been waiting, Unix milliseconds, 0 if none is.
    rollbacks
        So many rollbacks of the trainer are in the marks; `None` where the trainer does not say.
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
        """How many items can be listed."""
        return self.known_items + self.other_items

    @property
    def behind_below(self) -> float:
        """A list that is behind is far behind if its version had learned fewer events than this."""
        return _below(self.events + self.lacking, TOLERATED_SHARE if self.quiet else FAR_BEHIND_SHARE)

    @property
    def complete_below(self) -> float:
        """The same of a list that was complete when it was made: its user has been away since."""
        events = self.events + self.lacking
        young = max(TOLERATED_SHARE, min(FAR_BEHIND_SHARE, events / YOUNG_EVENTS))
        return _below(events, young if self.quiet else FAR_BEHIND_SHARE)


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """How many lists are marked.

    Attributes
    ----------
    poor, far, short
        Lists that wait to be made again: by a version that lacked much; by one that is far behind by now; with fewer
        items than could be listed. A list may be among the last and one of the others.
    behind, complete, all_short
        All that are marked so, waiting or not.
    """

    poor: int = 0
    far: int = 0
    short: int = 0
    behind: int = 0
    complete: int = 0
    all_short: int = 0

    @property
    def waiting(self) -> int:
        """Lists that wait to be made again."""
        return self.poor + self.far + self.short


def lacking(knowledge: Knowledge, ends: Mapping[int, int]) -> int:
    """Return how many records of `user-interests` a version lacks, nothing where the trainer does not say.

    Parameters
    ----------
    ends
        By partition, the offset below which lists were made; where these are only some of the partitions, the others
        are taken to be like them.
    """
    if knowledge.contains is None or not ends:
        return 0
    missing = sum(max(0, end - knowledge.contains.get(partition, 0)) for partition, end in ends.items())
    return round(missing * max(1.0, len(knowledge.contains) / len(ends)))


def is_tolerable(events: int, lacking: int) -> bool:
    """Return whether a version that has learned some events, and lacks others, makes good lists."""
    return lacking <= max(TOLERATED_EVENTS, TOLERATED_SHARE * (events + lacking))


def is_undone(made_by: Knowledge, now: Knowledge) -> bool:
    """Return whether the version that made lists was rolled back meanwhile."""
    return now.rollbacks != made_by.rollbacks


def marks_of(lists: Sequence[TopKList], *, made: Made, knowledge: Knowledge, top_k: int, items: int) -> list[Mark]:
    """Return the marks of lists that were made by the same version.

    Parameters
    ----------
    items
        How many items could be listed.
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
