"""The trainer worker in one thread: a reader that goes where the positions say, and a step after each batch."""

from __future__ import annotations

from builders import batch, part
from doubles import MemoryPublisher

from streamrec.contracts.topics import MODEL_CONTROL, MODEL_UPDATES, USER_INTERESTS
from streamrec.service.batch import TopicPartition
from streamrec.service.train_on_interests import TrainOnInterests

SOURCE = TopicPartition(USER_INTERESTS, 0)
BATCH = 40


class Running:
    """A trainer that reads a log of `user-interests` records; each batch takes 0.5 s."""

    def __init__(self, trainer, log, *, checkpoint_interval_s=10.0):
        self.trainer = trainer
        self.log = log
        self.publisher = MemoryPublisher()
        self.clock_s = 0.0
        self.use_case = TrainOnInterests(
            trainer, self.publisher, checkpoint_interval_s=checkpoint_interval_s, monotonic_s=lambda: self.clock_s
        )
        self._next = self.position

    @property
    def position(self):
        return self.use_case.positions([SOURCE]).get(SOURCE, 0)

    @property
    def counted(self):
        """Events that were learned, which is once for each event that was admitted and trained."""
        return self.trainer.model.events

    @property
    def updates(self):
        return [record.value for record in self.publisher.of(MODEL_UPDATES)]

    def turn(self):
        read = self.log[self._next : self._next + BATCH]
        settled = self.use_case.handle(batch(part(USER_INTERESTS, read, start=self._next)))
        self.clock_s += 0.5
        self.use_case.step()
        self._next = settled[SOURCE]

    def play(self, upto):
        while self.position < upto or self._next != self.position:
            self.turn()

    def command(self, *values, start=0):
        self.use_case.learn(batch(part(MODEL_CONTROL, values, start=start)))
