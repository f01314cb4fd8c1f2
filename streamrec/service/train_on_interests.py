"""The `trainer` use case: `user-interests` become training steps, model updates and checkpoints.

`handle` admits events and returns at once; `step`, in a thread of its own, trains on what was admitted. An event counts
as consumed once it is admitted, and a checkpoint holds what was admitted and not yet trained, so that a restart goes on
from the checkpoint's positions and every event is admitted once in the lineage that survives.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

import msgspec
import structlog

from streamrec.contracts.decode import decode_item
from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.contracts.topics import ITEMS, MODEL_UPDATES
from streamrec.errors import BadRecordError, TransientError
from streamrec.service.batch import Batch, Positions, TopicPartition
from streamrec.service.fence import PositionFence
from streamrec.service.ports import Outgoing, Publisher, Trainer

MAX_WAITING_EVENTS = 16_384
"""More events than this never wait for training: the reader holds back instead."""

MAX_STEP_EVENTS = 1_024
"""A step takes at most so many; when more wait, each one gets less effort."""

PUBLISH_INTERVAL_S = 0.5
"""Versions are published at most so often: lists are then seconds fresh, and the broker is not flooded."""

_interest_decoder = msgspec.json.Decoder(UserInterest)
_log = structlog.get_logger(__name__)


class FenceState(msgspec.Struct, frozen=True, array_like=True):
    """A fence in a checkpoint."""

    event_type: int
    partition: int
    highest: int
    bits: bytes


class Admissions(msgspec.Struct, frozen=True):
    """What a checkpoint says of consumption: taken at one instant, together with the trained state."""

    positions: list[tuple[str, int, int]]
    """Topic, partition, next offset."""
    fences: list[FenceState]
    waiting: list[UserInterest]
    """Admitted and not yet trained; `new` holds only what was admitted from each."""


class TrainOnInterests:
    """Admits each event once and trains on it soon after.

    `handle` and `learn` may be called while another thread is in `step`: they never wait for training.

    Parameters
    ----------
    trainer
        Learns, and makes updates and checkpoints.
    publisher
        Where model updates go.
    checkpoint_interval_s
        Seconds between checkpoints while events arrive.
    monotonic_s
        The clock that paces publishing and checkpoints.
    """

    def __init__(
        self,
        trainer: Trainer,
        publisher: Publisher,
        *,
        checkpoint_interval_s: float = 30.0,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trainer = trainer
        self._publisher = publisher
        self._checkpoint_interval_s = checkpoint_interval_s
        self._monotonic_s = monotonic_s
        self._lock = Lock()
        self._waiting: deque[UserInterest] = deque()
        self._waiting_events = 0
        self._fences: dict[tuple[int, int], PositionFence] = {}
        self._positions: Positions = {}
        self._unpublished: list[Outgoing] = []
        self._published_s = float("-inf")
        self._checkpointed_s = monotonic_s()
        self._checkpoint_is_stale = False
        if trainer.admissions:
            self._restore(msgspec.json.decode(trainer.admissions, type=Admissions))

    @property
    def waiting(self) -> int:
        """Number of events that were admitted and are not trained yet."""
        return self._waiting_events

    def handle(self, batch: Batch) -> Positions:
        """Admit the new events of a batch of `user-interests`, and return the next offset of each of its sources.

        Raises
        ------
        TransientError
            If too many events wait for training; the same batch can be handed in again.
        """
        interests = [interest for interest in map(_decode, batch) if interest is not None]
        with self._lock:
            if self._waiting_events > MAX_WAITING_EVENTS:
                raise TransientError(f"{self._waiting_events} events wait for training")
            for interest in interests:
                self._admit(interest)
            positions = {part.source: part.next for part in batch.slices}
            self._positions |= positions
            self._checkpoint_is_stale = True
        return positions

    def learn(self, batch: Batch) -> None:
        """Take in a batch of `items`."""
        for source, record in batch:
            if source.topic != ITEMS:
                continue
            if record.value is None:
                self._trainer.delete_item((record.key or b"").decode(errors="replace"))
                continue
            try:
                item = decode_item(record.value)
            except BadRecordError as error:
                _log.warning("item refused", offset=record.offset, because=str(error))
            else:
                self._trainer.put_item(item)

    def step(self) -> None:
        """Train on what waits, publish what was learned when it is time to, and checkpoint when it is time to.

        Raises
        ------
        TransientError
            If the broker is away; what was not published goes out with the next call.
        """
        taken, behind = self._take()
        if taken:
            self._trainer.train(taken, behind=behind)
        now_s = self._monotonic_s()
        if now_s - self._published_s >= PUBLISH_INTERVAL_S or not self._waiting_events:
            self.publish()
            self._published_s = now_s
        if now_s - self._checkpointed_s >= self._checkpoint_interval_s:
            self.checkpoint()

    def publish(self) -> None:
        """Publish what was learned since the last time.

        Raises
        ------
        TransientError
            If the broker is away; the same records go out with the next call.
        """
        if not self._unpublished:
            self._unpublished = [Outgoing(MODEL_UPDATES, None, value) for value in self._trainer.take_update()]
        if self._unpublished:
            self._publisher.publish(self._unpublished)
            self._unpublished = []

    def checkpoint(self) -> None:
        """Save the trained state with the positions it contains, unless nothing came since the last time.

        Call it from the thread that calls `step`: between two steps the trained state and the positions agree.
        """
        self._checkpointed_s = self._monotonic_s()
        with self._lock:
            if not self._checkpoint_is_stale:
                return
            self._checkpoint_is_stale = False
            admissions = Admissions(
                positions=[(*source, offset) for source, offset in self._positions.items()],
                fences=[FenceState(*key, fence.highest, bytes(fence.bits)) for key, fence in self._fences.items()],
                waiting=list(self._waiting),
            )
        self._trainer.save(msgspec.json.encode(admissions))

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was ever read."""
        with self._lock:
            return {source: self._positions[source] for source in sources if source in self._positions}

    def _admit(self, interest: UserInterest) -> None:
        new = [position for position in interest.new if self._fence_of(position).admit(position.offset)]
        if not new:
            return
        if len(new) < len(interest.new):
            interest = msgspec.structs.replace(interest, new=new)
        self._waiting.append(interest)
        self._waiting_events += len(new)

    def _fence_of(self, position: EventPosition) -> PositionFence:
        key = (position.event_type, position.partition)
        fence = self._fences.get(key)
        if fence is None:
            fence = self._fences[key] = PositionFence()
        return fence

    def _take(self) -> tuple[list[UserInterest], int]:
        """Return the oldest interests that wait, and how many events still wait behind them."""
        taken: list[UserInterest] = []
        events = 0
        with self._lock:
            while self._waiting and events < MAX_STEP_EVENTS:
                taken.append(self._waiting.popleft())
                events += len(taken[-1].new)
            self._waiting_events -= events
            return taken, self._waiting_events

    def _restore(self, admissions: Admissions) -> None:
        self._positions = {TopicPartition(topic, part): offset for topic, part, offset in admissions.positions}
        for state in admissions.fences:
            self._fences[state.event_type, state.partition] = PositionFence(state.highest, state.bits)
        self._waiting.extend(admissions.waiting)
        self._waiting_events = sum(len(interest.new) for interest in admissions.waiting)


def _decode(entry: tuple[TopicPartition, object]) -> UserInterest | None:
    source, record = entry
    try:
        return _interest_decoder.decode(record.value or b"")  # type: ignore[attr-defined]
    except msgspec.DecodeError as error:
        # a state that `interests` wrote decodes; its next one carries the same sequence
        _log.error("interest refused", partition=source.partition, because=str(error))
        return None
