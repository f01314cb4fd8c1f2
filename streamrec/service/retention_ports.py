"""Ports for recording retention: its store, and the changes of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from streamrec.domain.retention import UserRetention
from streamrec.service.batch import Positions, TopicPartition


@dataclass(slots=True)
class Counts:
    """Counts, added to the stored ones."""

    lists: int = 0
    impressions: int = 0
    clicks: int = 0
    purchases: int = 0
    followed_clicks: int = 0
    followed_purchases: int = 0


@dataclass(slots=True)
class Followed:
    """Events attributed to a list; counts are added to the stored ones, the earlier time is kept."""

    user_id: str
    first_followed_at_ms: int = 0
    clicks: int = 0
    purchases: int = 0


@dataclass(slots=True)
class RetentionChanges:
    """Changes by a batch.

    Parameters
    ----------
    users
        The new state of each user of the batch.
    arms
        The arm of each user of the batch.
    activity
        Clicks and purchases by user and day.
    counts
        By day and arm.
    followed
        By list.
    """

    users: dict[str, UserRetention]
    arms: dict[str, str]
    activity: dict[tuple[str, int], Counts] = field(default_factory=dict)
    counts: dict[tuple[int, str], Counts] = field(default_factory=dict)
    followed: dict[str, Followed] = field(default_factory=dict)


class RetentionTransaction(Protocol):
    """A transaction; rows that it has locked stay locked until it ends."""

    def lock_positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read, and lock them."""

    def lock_users(self, arms: Mapping[str, str]) -> dict[str, UserRetention]:
        """Return the state of each user, empty if there is none, and lock them."""

    def write(self, changes: RetentionChanges, positions: Positions) -> None:
        """Write all changes and move the positions."""


class RetentionStore(Protocol):
    """Stores retention and the positions of its topics."""

    def transaction(self) -> AbstractContextManager[RetentionTransaction]:
        """Return a transaction that commits on exit and rolls back on an error."""

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read."""
