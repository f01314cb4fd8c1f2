"""The `trainer` use case: `user-interests` become training steps, model updates and checkpoints.

`handle` admits events and returns immediately; `step`, in a separate thread, trains on admitted events. An event counts
as consumed once it is admitted, and a checkpoint contains admitted events that are not trained yet, so that a restart
resumes from the checkpoint's positions and every event is admitted once in the surviving lineage. A rollback is a
restart from an older checkpoint within the process: the positions, and with them the consumer, move back.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import structlog

from streamrec.contracts.decode import decode_interest, decode_own
from streamrec.contracts.derived import UserInterest
from streamrec.contracts.model_version import ModelCommand
from streamrec.contracts.topics import EVENT_TOPICS, ITEMS, MODEL_CONTROL, MODEL_UPDATES, MODEL_VERSIONS
from streamrec.errors import BadRecordError, TransientError
from streamrec.service.admission import Admission, Admissions
from streamrec.service.batch import Batch, Positions, Record, TopicPartition
from streamrec.service.item_records import read_item_record
from streamrec.service.ports import Outgoing, Publisher, Trainer
from streamrec.service.tally import Tally

PUBLISH_INTERVAL_S = 0.5
"""Minimum interval between published versions: frequent enough for fresh lists without flooding the broker."""

MAX_COMMANDS = 100
"""Maximum number of waiting commands; beyond it the oldest one is dropped."""

VERSIONS_KEY = b"versions"

_command_decoder = msgspec.json.Decoder(ModelCommand)
_encoder = msgspec.json.Encoder()
_log = structlog.get_logger(__name__)


class _Order(NamedTuple):
    """A command and its offset."""

    offset: int
    roll_back_to: str


class TrainOnInterests:
    """Admits each event once and trains on it.

    `handle` and `learn` may be called while another thread runs `step`: they never wait for training.

    Parameters
    ----------
    trainer
        Trains, and makes updates and checkpoints.
    publisher
        Publisher of model updates.
    checkpoint_interval_s
        Seconds between checkpoints while events arrive.
    monotonic_s
        Clock for publishing and checkpoints.
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
        self._admission = Admission()
        self._orders: deque[_Order] = deque(maxlen=MAX_COMMANDS)
        self._next_command = 0
        self._unpublished: list[Outgoing] = []
        self._published_versions = b""
        self._published_s = float("-inf")
        self._checkpointed_s = monotonic_s()
        self._must_be_saved = False
        """Whether a rollback is not saved yet."""
        self._must_tell_all = False
        """Whether readers of `model-updates` may know nothing: the topic was re-created."""
        self.tally = Tally()
        """Counts of the last batch."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Refused records of the other topics since the last read, by topic and reason."""
        if trainer.admissions:
            admissions = msgspec.json.decode(trainer.admissions, type=Admissions)
            self._admission.restore(admissions)
            self._next_command = admissions.next_command

    @property
    def waiting(self) -> int:
        """Number of admitted events that are not trained yet."""
        return self._admission.waiting

    @property
    def must_step(self) -> bool:
        """Whether a step is due although no events wait: for a command, a version or a checkpoint."""
        return bool(
            self._orders
            or self._trainer.condemned
            or self._must_be_saved
            or self._must_tell_all
            or (not self._admission.waiting and not self._admission.all_taken)
            or (self._has_news and self._is_checkpoint_time)
        )

    @property
    def _has_news(self) -> bool:
        """Whether there is anything to save."""
        return self._admission.is_stale or bool(self._trainer.unsaved)

    @property
    def _is_checkpoint_time(self) -> bool:
        return self._monotonic_s() - self._checkpointed_s >= self._checkpoint_interval_s

    def handle(self, batch: Batch) -> Positions:
        """Admit the new events of a batch of `user-interests`, and return the position of each of its sources.

        Raises
        ------
        TransientError
            If too many events wait for training; the same batch can be handed in again.
        """
        self.tally = Tally()
        interests = [interest for source, record in batch if (interest := self._decode(source, record)) is not None]
        positions = self._admission.admit(interests, batch.slices)
        if self.tally.refused:
            self.tally.outcomes["refused"] = self.tally.refused.total()
        return positions

    def learn(self, batch: Batch) -> None:
        """Apply a batch of `items` and `model-control`."""
        for source, record in batch:
            if source.topic == ITEMS:
                self._learn_item(record)
            elif source.topic == MODEL_CONTROL:
                self._take_order(record)

    def step(self) -> None:
        """Execute commands, train on waiting events, and publish and checkpoint when due.

        Raises
        ------
        TransientError
            If the broker is unavailable, or a rollback cannot be saved; the next call continues from there.
        """
        self._secure()
        self._obey()
        taken, behind = self._admission.take()
        if taken:
            self._trainer.train(taken, behind=behind)
        self._trainer.contain({source.partition: offset for source, offset in self._admission.taken.items()})
        now_s = self._monotonic_s()
        must_checkpoint = self._is_checkpoint_time
        may_publish = now_s - self._published_s >= PUBLISH_INTERVAL_S or not self._admission.waiting
        if must_checkpoint or may_publish or self._trainer.condemned:
            self.publish()
            self._published_s = now_s
        if must_checkpoint:
            self._checkpoint()

    def publish(self) -> None:
        """Publish what was learned since the last version; roll back instead if it must not serve.

        Raises
        ------
        TransientError
            If the broker is unavailable; the same records are sent with the next call.
        """
        if not self._unpublished:
            self._take_update()
        versions = _encoder.encode(self._trainer.versions)
        told = [] if versions == self._published_versions else [Outgoing(MODEL_VERSIONS, VERSIONS_KEY, versions)]
        if self._unpublished or told:
            self._publisher.publish([*self._unpublished, *told])
            self._unpublished, self._published_versions = [], versions

    def checkpoint(self) -> None:
        """Save the trained state with its positions, unless nothing changed since the last time.

        Call it from the thread that calls `step`: between two steps, trained state and positions are consistent.
        """
        self._checkpoint()
        self._trainer.wait_until_saved()

    def _checkpoint(self) -> None:
        """Start saving; the next steps need not wait for the disk."""
        self._checkpointed_s = self._monotonic_s()
        if not self._unpublished:
            self._take_update()  # only checked versions are kept
        if self._has_news:
            self._save()

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read."""
        return self._admission.positions(sources)

    @property
    def other_topics(self) -> Sequence[str]:
        """Topics of whose records offsets are kept, events and commands, and the one that holds versions."""
        return (*EVENT_TOPICS, MODEL_CONTROL, MODEL_UPDATES)

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the known ids of topics."""
        return self._admission.topic_ids(topics)

    def contains_any(self, sources: Sequence[TopicPartition]) -> bool:
        """Return whether anything from these partitions was read or admitted."""
        return self._admission.contains_any(sources)

    def adopt_topic_ids(self, ids: Mapping[str, str]) -> None:
        """Keep the ids of these topics, in place of those that were kept.

        New commands begin at offset 0 again, and a new `model-updates` begins with everything.
        """
        known = self._admission.topic_ids(list(ids))
        others = {topic for topic, topic_id in known.items() if ids[topic] != topic_id}
        if MODEL_CONTROL in others:
            _log.error("commands restart at offset 0", because=f"topic {MODEL_CONTROL} was re-created")
            self._next_command = 0
        if MODEL_UPDATES in others:
            _log.error("everything is published", because=f"topic {MODEL_UPDATES} was re-created")
            self._must_tell_all = True
        self._admission.adopt_topic_ids(ids)

    def begin_anew(self, topic: str, topic_id: str) -> None:
        """Clear what was read from a re-created topic, which is read from its beginning."""
        if topic == ITEMS:
            self._trainer.forget_catalogue()
        elif topic == MODEL_CONTROL:
            self.adopt_topic_ids({topic: topic_id})

    def _take_update(self) -> None:
        whole, self._must_tell_all = self._must_tell_all, False
        records = [] if self._trainer.condemned else self._trainer.take_update(whole=whole)
        if self._trainer.condemned:
            self._roll_back(None, self._trainer.condemned)
            records = self._trainer.take_update()
        self._unpublished = [Outgoing(MODEL_UPDATES, None, value) for value in records]

    def _roll_back(self, version: str | None, because: str) -> None:
        """Restore an older version, as after a restart from it, and save that before publishing anything."""
        admissions = self._trainer.roll_back(version, because)
        ids = self._admission.topic_ids([MODEL_CONTROL, MODEL_UPDATES])
        undone = self._admission.restore(
            msgspec.json.decode(admissions, type=Admissions) if admissions else Admissions([], [], [])
        )
        self._admission.adopt_topic_ids(ids)  # what is known of these topics does not go back
        self._trainer.spare(undone)
        self._unpublished = []
        self._must_be_saved = True
        self._secure()

    def _secure(self) -> None:
        """Save a rollback: what was rolled back must not return with the next start."""
        if not self._must_be_saved:
            return
        self._save()
        self._trainer.wait_until_saved()
        if self._trainer.unsaved:
            raise TransientError(f"the rollback cannot be saved: {self._trainer.unsaved}")
        self._must_be_saved = False

    def _save(self) -> None:
        self._trainer.save(_encoder.encode(self._admission.state(self._next_command)))

    def _take_order(self, record: Record) -> None:
        """Queue a command, unless it was executed before."""
        if record.offset < self._next_command:
            return
        try:
            command = decode_own(_command_decoder, record.value)
        except BadRecordError as error:
            _log.error("command refused", offset=record.offset, because=str(error))
            self.refused[MODEL_CONTROL, error.reason] += 1
        else:
            self._orders.append(_Order(record.offset, command.roll_back_to))

    def _obey(self) -> None:
        while self._orders:
            order = self._orders.popleft()
            # before the checkpoint of the rollback, so that both are saved together
            self._next_command = order.offset + 1
            if self._trainer.can_go_back_to(order.roll_back_to):
                self._roll_back(order.roll_back_to, "by hand")
            else:
                _log.error("command refused", because=f"{order.roll_back_to} has no intact checkpoint")

    def _learn_item(self, record: Record) -> None:
        change = read_item_record(record, Tally())  # `retention` counts refusals
        for item_id in change.gone:
            self._trainer.delete_item(item_id)
        if change.put is not None:
            self._trainer.put_item(change.put)

    def _decode(self, source: TopicPartition, record: Record) -> UserInterest | None:
        try:
            record.check()
            return decode_interest(record.value, record.timestamp_ms)
        except BadRecordError as error:
            # `interests` only writes valid states, and the user's next one has the same sequence
            _log.error("interest refused", partition=source.partition, offset=record.offset, because=str(error))
            self.tally.refused[source.topic, error.reason] += 1
            return None
