"""Admission to training: each event is admitted once, and waits for its training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import NamedTuple

import msgspec

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.topics import EVENT_TOPICS
from streamrec.errors import TransientError
from streamrec.service.batch import Positions, Slice, TopicPartition, follow_on, positions_of
from streamrec.service.fence import Fences, FenceState

MAX_WAITING_EVENTS = 16_384
"""Maximum number of waiting events; beyond it the consumer pauses."""

MAX_STEP_EVENTS = 1_024
"""Maximum number of events per step; with more waiting, each one gets less effort."""


class Admissions(msgspec.Struct, frozen=True):
    """Consumption state in a checkpoint, consistent with the trained state."""

    positions: list[tuple[str, int, int]]
    """Topic, partition, next offset."""
    fences: list[FenceState]
    waiting: list[UserInterest]
    """Admitted and not trained yet; `new` contains only the admitted events of each record."""
    next_command: int = 0
    """Offset of the next command to execute."""
    topic_ids: dict[str, str] = {}
    """Ids of the topics that the positions and fences refer to."""


class _Mark(NamedTuple):
    """Once this many events were taken since the start, everything below these positions was taken."""

    events: int
    positions: Positions


class Admission:
    """Admits each event once; one thread may admit while another takes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[UserInterest] = deque()
        self._waiting_events = 0
        self._fences = Fences()
        self._positions: Positions = {}
        self._topic_ids: dict[str, str] = {}
        self._is_stale = False
        self._admitted_events = self._taken_events = 0
        self._marks: deque[_Mark] = deque()
        """At most the number of waiting events, plus one."""
        self._taken: Positions = {}

    @property
    def waiting(self) -> int:
        """Number of admitted events that are not trained yet."""
        return self._waiting_events

    @property
    def is_stale(self) -> bool:
        """Whether anything was admitted since the last :meth:`state`."""
        return self._is_stale

    @property
    def all_taken(self) -> bool:
        """Whether nothing was admitted, not even records without a new event, since the last :meth:`take`."""
        return not self._marks

    @property
    def taken(self) -> Positions:
        """The positions below which all events were taken, as of the last :meth:`take`."""
        return self._taken

    def admit(self, interests: Sequence[UserInterest], slices: Sequence[Slice]) -> Positions:
        """Admit the new events of the interests in these slices, and return the position of each of their sources.

        Slices that do not start at the position, because the trainer was rolled back since they were read, change
        nothing.

        Raises
        ------
        TransientError
            If too many events wait for training; the same call can be made again.
        """
        with self._lock:
            if not follow_on(slices, self._positions):
                return positions_of(slices, self._positions)
            if self._waiting_events > MAX_WAITING_EVENTS:
                raise TransientError(f"{self._waiting_events} events wait for training")
            for interest in interests:
                self._admit(interest)
            positions = {part.source: part.next for part in slices}
            self._positions |= positions
            self._is_stale = True
            self._mark(positions)
            return positions

    def take(self) -> tuple[list[UserInterest], int]:
        """Return the oldest waiting interests, and the number of events still waiting after them."""
        taken: list[UserInterest] = []
        events = 0
        with self._lock:
            while self._waiting and events < MAX_STEP_EVENTS:
                taken.append(self._waiting.popleft())
                events += len(taken[-1].new)
            self._waiting_events -= events
            self._taken_events += events
            while self._marks and self._marks[0].events <= self._taken_events:
                self._taken = self._taken | self._marks.popleft().positions
            return taken, self._waiting_events

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read."""
        with self._lock:
            return {source: self._positions[source] for source in sources if source in self._positions}

    def state(self, next_command: int) -> Admissions:
        """Return the state, for a checkpoint."""
        with self._lock:
            self._is_stale = False
            return Admissions(
                positions=[(*source, offset) for source, offset in self._positions.items()],
                fences=self._fences.state(),
                waiting=list(self._waiting),
                next_command=next_command,
                topic_ids=dict(self._topic_ids),
            )

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the known ids of topics."""
        with self._lock:
            return {topic: self._topic_ids[topic] for topic in topics if topic in self._topic_ids}

    def adopt_topic_ids(self, ids: Mapping[str, str]) -> None:
        """Replace the stored topic ids."""
        with self._lock:
            self._topic_ids |= ids
            self._is_stale |= bool(self._positions)

    def contains_any(self, sources: Sequence[TopicPartition]) -> bool:
        """Return whether anything from these partitions was read or admitted."""
        with self._lock:
            return any(
                self._fences.has_admitted(EVENT_TOPICS.index(source.topic), source.partition)
                if source.topic in EVENT_TOPICS
                else self._positions.get(source, 0)
                for source in sources
            )

    def restore(self, admissions: Admissions) -> Fences:
        """Restore what :meth:`state` returned, and return a fence of the events admitted here that are not in it.

        A source that was not read then is read from the beginning again.
        """
        with self._lock:
            self._positions = dict.fromkeys(self._positions, 0) | {
                TopicPartition(topic, part): offset for topic, part, offset in admissions.positions
            }
            undone, self._fences = self._fences, Fences(admissions.fences)
            undone.leave_out(self._fences)
            self._topic_ids |= admissions.topic_ids  # an older checkpoint may have none: a refusal keeps them correct
            self._waiting = deque(admissions.waiting)
            self._waiting_events = sum(len(interest.new) for interest in admissions.waiting)
            self._is_stale = False
            self._admitted_events, self._taken_events, self._taken = self._waiting_events, 0, {}
            self._marks = deque()
            if self._waiting:
                self._mark(dict(self._positions))
            else:
                self._taken = dict(self._positions)
        return undone

    def _admit(self, interest: UserInterest) -> None:
        new = [position for position in interest.new if self._fences.admit(position)]
        if not new:
            return
        if len(new) < len(interest.new):
            interest = msgspec.structs.replace(interest, new=new)
        self._waiting.append(interest)
        self._waiting_events += len(new)
        self._admitted_events += len(new)

    def _mark(self, positions: Positions) -> None:
        last = self._marks[-1] if self._marks else None
        if last is not None and last.events == self._admitted_events:
            # no event came in between
            self._marks[-1] = _Mark(last.events, last.positions | positions)
        else:
            self._marks.append(_Mark(self._admitted_events, positions))
