"""Interface of baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

UNKNOWN = 1 << 30
"""Rank of an unlisted item."""


class Baseline(Protocol):
    """Ranks all items for a user, by one or several rankings."""

    @property
    def names(self) -> Sequence[str]:
        """Names of its rankings."""

    def ranks(self, user_id: str, item_id: str) -> np.ndarray:
        """Return the rank of an item in the user's list by each ranking: the number of items above it."""

    def learn_one(self, user_id: str, item_id: str, event_time_ms: int) -> None:
        """Take in an event."""


class Histories:
    """Rows of items, and the latest events of each user; grows with the users and items of the stream.

    Parameters
    ----------
    hide_seen
        Whether the items of a user's latest events are excluded from the user's lists.
    sequence_length
        Number of latest events per user.
    """

    def __init__(self, *, hide_seen: bool, sequence_length: int) -> None:
        self.row_of: dict[str, int] = {}
        self._hide_seen = hide_seen
        self._sequence_length = sequence_length
        self._rows: dict[str, list[int]] = {}

    def __len__(self) -> int:
        """Return the number of items so far."""
        return len(self.row_of)

    def newest(self, user_id: str) -> list[int]:
        """Return the rows of a user's latest events, oldest first."""
        return self._rows.get(user_id, [])

    def hidden(self, user_id: str) -> np.ndarray:
        """Return the distinct rows excluded from a user's lists."""
        return np.array(list(set(self.newest(user_id))) if self._hide_seen else [], np.int64)

    def learn_one(self, user_id: str, item_id: str) -> int:
        """Learn an event, and return the row of its item."""
        row = self.row_of.setdefault(item_id, len(self.row_of))
        rows = self._rows.setdefault(user_id, [])
        rows.append(row)
        if len(rows) > self._sequence_length:
            del rows[0]
        return row


EXACT_PLACES = 100
"""Beyond this rank ties count as below: no metric reaches that far."""


def place_of(row: int, scores: np.ndarray, hidden: np.ndarray) -> int:
    """Return the number of unhidden items above this one; ties are ordered by age, older first.

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
