"""Interest states and progress as this process stored them last, so that batches need not read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamrec.domain.interest import InterestState
from streamrec.service.batch import TopicPartition
from streamrec.service.ports import InterestSnapshot, Progress

MAX_EVENTS = 65_536
"""Maximum number of events in all cached sequences: about 20 MB."""


class InterestCache:
    """The latest used states, and the progress of the partitions that were written.

    What is in a batch is taken out and returns once it is stored: a batch that fails is read from the store again.
    Whether the store still has the same is decided by the compare-and-set.
    """

    def __init__(self) -> None:
        self._states: dict[str, InterestState] = {}
        self._progress: dict[TopicPartition, Progress] = {}
        self._events = 0

    def take(self, user_ids: Sequence[str], sources: Sequence[TopicPartition]) -> InterestSnapshot:
        """Take out what is known of these users and partitions: nothing, if a partition is new to this process."""
        if not all(source in self._progress for source in sources):
            self.clear()
        progress = {source: self._progress.pop(source) for source in sources if source in self._progress}
        return InterestSnapshot(self._take(user_ids), progress)

    def put(self, stored: InterestSnapshot) -> None:
        """Add what was stored, and drop the states that were not used for longest."""
        self._take(stored.states)
        self._progress |= stored.progress
        self._states |= stored.states
        self._events += sum(len(state.sequence) for state in stored.states.values())
        while self._events > MAX_EVENTS:
            self._take([next(iter(self._states))])

    def clear(self) -> None:
        """Drop everything."""
        self._states, self._progress, self._events = {}, {}, 0

    def _take(self, user_ids: Iterable[str]) -> dict[str, InterestState]:
        states = {user_id: self._states.pop(user_id) for user_id in user_ids if user_id in self._states}
        self._events -= sum(len(state.sequence) for state in states.values())
        return states
