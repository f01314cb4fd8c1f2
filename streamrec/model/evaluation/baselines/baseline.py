"""What the evaluation asks of a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

UNKNOWN = 1 << 30
"""Place of an item that is in no list."""


class Baseline(Protocol):
    """Something that ranks all items for a user; it may hold several rankings."""

    @property
    def names(self) -> Sequence[str]:
        """What its rankings are called."""

    def ranks(self, user_id: str, item_id: str) -> np.ndarray:
        """Return the place of an item in the user's list by each ranking: how many items stand above it."""

    def learn_one(self, user_id: str, item_id: str, event_time_ms: int) -> None:
        """Take in an event."""


class Histories:
    """Rows of items, and the newest events of each user; its size is that of the users and items of the stream.

    Parameters
    ----------
    hide_seen
        Whether the items of a user's newest events are left out of the user's lists.
    sequence_length
        How many of a user's newest events are known.
    """

    def __init__(self, *, hide_seen: bool, sequence_length: int) -> None:
        self.row_of: dict[str, int] = {}
        self._hide_seen = hide_seen
        self._sequence_length = sequence_length
        self._rows: dict[str, list[int]] = {}

    def __len__(self) -> int:
        """Items so far."""
        return len(self.row_of)

    def newest(self, user_id: str) -> list[int]:
        """Return the rows of a user's newest events, oldest first."""
        return self._rows.get(user_id, [])

    def hidden(self, user_id: str) -> np.ndarray:
        """Return the distinct rows that are left out of a user's lists."""
        return np.array(list(set(self.newest(user_id))) if self._hide_seen else [], np.int64)

    def learn_one(self, user_id: str, item_id: str) -> int:
        """Take in an event, and return the row of its item."""
        row = self.row_of.setdefault(item_id, len(self.row_of))
        rows = self._rows.setdefault(user_id, [])
        rows.append(row)
        if len(rows) > self._sequence_length:
            del rows[0]
        return row


EXACT_PLACES = 100
"""Further down, equals count as standing below: no measure looks there."""


def place_of(row: int, scores: np.ndarray, hidden: np.ndarray) -> int:
    """Return how many items that are not hidden stand above this one; of two that are equal the older one does.

    Shape
    -----
    scores : (items,)
    hidden : (n,) distinct rows, not this one
    """
    own = scores[row]
    above = int(np.count_nonzero(scores > own))
    if above - len(hidden) >= EXACT_PLACES:
        return above
    above += int(np.count_nonzero(scores[:row] == own))
    if len(hidden):
        theirs = scores[hidden]
        above -= int(np.count_nonzero((theirs > own) | ((theirs == own) & (hidden < row))))
    return above
