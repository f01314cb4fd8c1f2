"""What recording retention needs of the outside: its store, and what a batch changes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from streamrec.domain.retention import UserRetention
from streamrec.service.batch import Positions, TopicPartition


@dataclass(slots=True)
class Counts:
    """How often what happened; added to what is stored."""

    lists: int = 0
    impressions: int = 0
    clicks: int = 0
    purchases: int = 0
    followed_clicks: int = 0
    followed_purchases: int = 0


@dataclass(slots=True)
class Followed:
    """What followed a list; counts are added to what is stored, of times the earlier one stays."""

    user_id: str
    first_followed_at_ms: int = 0
    clicks: int = 0
    purchases: int = 0


@dataclass(slots=True)
class RetentionChanges:
    """What a batch changes.

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
    """One atomic piece of work; what it has locked waits for nobody else until it ends."""

    def lock_positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was ever read, and keep others from moving them."""

    def lock_users(self, arms: Mapping[str, str]) -> dict[str, UserRetention]:
        """Return the state of each user, new where there is none, and keep others from writing them."""

    def write(self, changes: RetentionChanges, positions: Positions) -> None:
        """Write all changes and move the positions."""


class RetentionStore(Protocol):
    """Keeps retention, and how far its topics are contained in it."""

    def transaction(self) -> AbstractContextManager[RetentionTransaction]:
        """Return a transaction that is committed on leaving, and rolled back on an error."""

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was ever read."""
