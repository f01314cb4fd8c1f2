"""Input of a training step: the new events of each user with their history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamrec.contracts.derived import UserInterest
from streamrec.domain.event import EventType
from streamrec.domain.feedback import is_interest
from streamrec.domain.interest import SequenceEvent
from streamrec.service.fence import Fences

PURCHASE_LOSS_WEIGHT = 2.0
OLD_LOSS_WEIGHT = 0.25
"""Earlier events of a sequence are part of the forward pass anyway, so replaying them costs nothing."""


@dataclass(frozen=True, slots=True)
class UserHistory:
    """A user's sequence in a micro-batch, oldest first, with the indices of its new events."""

    user_id: str
    sequence: list[SequenceEvent]
    new: list[int]
    """Indices into `sequence`, ascending."""
    is_whole: bool = True
    """Whether the sequence holds all of the user's events."""

    @property
    def new_of_interest(self) -> list[int]:
        """The indices of new events that show interest."""
        return [index for index in self.new if is_interest(self.sequence[index].event_type)]

    @property
    def new_liked(self) -> list[int]:
        """The indices of new events on items that the user liked."""
        return [index for index in self.new if self.sequence[index].event_type >= 0]


@dataclass(slots=True)
class Padded:
    """Sequences for tensors, oldest first, padded at the end, all `(B, L)`.

    Attributes
    ----------
    rows
        Row of each event's item, 0 for padding.
    event_types, times_s
        Signed kind, and seconds since the first event.
    weights
        Weight of the event as a target of those before it, 0 for none.
    """

    rows: np.ndarray
    event_types: np.ndarray
    times_s: np.ndarray
    weights: np.ndarray


def by_user(interests: Sequence[UserInterest]) -> list[UserHistory]:
    """Merge the interests of each user: the latest sequence contains the new events of the others.

    A new event older than the whole sequence is skipped.
    """
    newest: dict[str, UserInterest] = {}
    new: dict[str, set[tuple[int, int, int]]] = {}
    for interest in interests:
        known = newest.get(interest.user_id)
        if known is None or interest.state_version >= known.state_version:
            newest[interest.user_id] = interest
        new.setdefault(interest.user_id, set()).update(
            (position.event_type, position.partition, position.offset) for position in interest.new
        )
    histories = []
    for user_id, interest in newest.items():
        wanted = new[user_id]
        indices = [
            index
            for index, event in enumerate(interest.sequence)
            if (abs(event.event_type), event.partition, event.offset) in wanted
        ]
        if indices:
            is_whole = interest.events_count <= len(interest.sequence)
            histories.append(UserHistory(user_id, interest.sequence, indices, is_whole))
    return histories


def pad(
    histories: Iterable[tuple[Sequence[SequenceEvent], Sequence[int], Sequence[int]]],
    max_length: int,
    *,
    spared: Fences | None = None,
) -> Padded:
    """Stack sequences.

    Parameters
    ----------
    histories
        Sequence, indices of its new events, and the row of each event.
    max_length
        Maximum number of events per sequence.
    spared
        Events that are not targets.
    """
    kept = [(sequence[-max_length:], len(sequence), new, rows[-max_length:]) for sequence, new, rows in histories]
    length = max(len(sequence) for sequence, *_ in kept)
    whole, real = np.zeros((len(kept), length), np.int64), np.zeros((len(kept), length), np.float32)
    out = Padded(rows=whole, event_types=whole.copy(), times_s=real, weights=real.copy())
    for place, (sequence, total, new, rows) in enumerate(kept):
        n = len(sequence)
        out.rows[place, :n] = rows
        types = [event.event_type for event in sequence]
        out.event_types[place, :n] = types
        first_ms = sequence[0].event_time_ms
        out.times_s[place, :n] = [(event.event_time_ms - first_ms) / 1000.0 for event in sequence]
        weights = np.full(n, OLD_LOSS_WEIGHT, np.float32)
        offset = total - n
        weights[[index - offset for index in new if index >= offset]] = 1.0
        weights[np.array(types) == EventType.PURCHASE] *= PURCHASE_LOSS_WEIGHT
        weights[np.array(types) < 0] = 0.0  # what a user does not like is never a target
        weights[0] = 0.0
        if spared:
            weights[[event in spared for event in sequence]] = 0.0
        out.weights[place, :n] = weights
    out.weights[out.rows == 0] = 0.0
    return out
