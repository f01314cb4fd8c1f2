"""Trainer of an evaluation: trains, keeps checkpoints and rolls back like its worker, without a broker."""

from __future__ import annotations

from collections.abc import Sequence

from streamrec.contracts.derived import UserInterest
from streamrec.model.training.trainer import Trainer
from streamrec.service.fence import Fences

CHECKPOINT_EVENTS = 15_000
"""Events between two checkpoints: 30 s at 500 events/s."""


class LiveTrainer:
    """Runs a trainer over a stream in one thread.

    It stores the events since the last good version, which are read again after a rollback.

    Parameters
    ----------
    trainer
        An untrained trainer.

    Attributes
    ----------
    rollbacks
        Number of rollbacks.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.rollbacks = 0
        self._learned: list[UserInterest] = []
        self._forgotten = 0
        """Events before those of `_learned`."""
        self._saved = 0
        """Events before the newest checkpoint."""
        self._events_before: dict[str, int] = {}
        """Events before each version that was kept since the last good one."""

    def learn(self, interests: Sequence[UserInterest]) -> list[bytes]:
        """Learn a micro-batch, one event per interest, and return the resulting records of `model-updates`."""
        records = self._step(interests)
        self._forget()
        if self._events - self._saved >= CHECKPOINT_EVENTS:
            self._save()
        return records

    @property
    def _events(self) -> int:
        return self._forgotten + len(self._learned)

    def _step(self, interests: Sequence[UserInterest]) -> list[bytes]:
        self._learned += interests
        self.trainer.train(interests, behind=0)
        records = self.trainer.take_update()
        return self._go_back(len(interests)) if self.trainer.condemned else records

    def _go_back(self, together: int) -> list[bytes]:
        """Roll back to the last good version; later events are counted again, but no longer trained on."""
        self.rollbacks += 1
        before = int(self.trainer.roll_back(None, self.trainer.condemned) or 0) - self._forgotten
        undone, self._learned = self._learned[before:], self._learned[:before]
        spared = Fences()
        for interest in undone:
            for event in interest.new:
                spared.admit(event)
        self.trainer.spare(spared)
        records = self.trainer.take_update()
        for start in range(0, len(undone), together):
            records += self._step(undone[start : start + together])
        return records

    def _save(self) -> None:
        self._saved = self._events
        self.trainer.save(str(self._saved).encode())
        self.trainer.wait_until_saved()
        self._events_before[self.trainer.versions.versions[-1].name] = self._saved

    def _forget(self) -> None:
        """Drop events that every restorable version has learned."""
        good = self.trainer.lineage.last_good
        if good in self._events_before:
            before = self._events_before[good]
            del self._learned[: before - self._forgotten]
            self._forgotten = before
            self._events_before = {name: events for name, events in self._events_before.items() if events > before}
