"""A bounded sample of users' sequences, for replay."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from streamrec.domain.interest import SequenceEvent

REPLAY_USERS = 20_000


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A user's latest sequence, oldest first."""

    user_id: str
    sequence: list[SequenceEvent]


class Reservoir:
    """The latest sequences of a uniform sample of users (reservoir sampling, Vitter 1985, algorithm R, by user).

    Parameters
    ----------
    capacity
        Maximum number of users.
    """

    def __init__(self, capacity: int = REPLAY_USERS) -> None:
        self.capacity = capacity
        self.offered = 0
        self.entries: list[Entry] = []
        self._places: dict[str, int] = {}

    def offer(self, user_id: str, sequence: list[SequenceEvent], random_source: random.Random) -> None:
        """Add a user's latest sequence, possibly replacing another user's."""
        if len(sequence) < 2:
            return
        place = self._places.get(user_id)
        if place is None:
            self.offered += 1
            if len(self.entries) < self.capacity:
                place = len(self.entries)
                self.entries.append(Entry(user_id, sequence))
            else:
                place = random_source.randrange(self.offered)
                if place >= self.capacity:
                    return
                del self._places[self.entries[place].user_id]
            self._places[user_id] = place
        self.entries[place] = Entry(user_id, sequence)

    def sample(self, n: int, random_source: random.Random) -> list[Entry]:
        """Sample up to n entries, with replacement."""
        return random_source.choices(self.entries, k=n) if self.entries else []

    def load(self, entries: Sequence[Entry], offered: int) -> None:
        """Restore what was saved."""
        self.entries, self.offered = list(entries), offered
        self._places = {entry.user_id: place for place, entry in enumerate(entries)}
