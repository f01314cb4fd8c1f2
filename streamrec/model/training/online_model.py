"""Learning a micro-batch: first test the serving version on it, then train.

A step (1) tests the serving version on some of the new events and trains the blend on them, (2) counts all of them, (3)
trains the sequence model on them and on replayed sequences.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec
import numpy as np
import structlog
import torch

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.model_update import Rollbacks
from streamrec.domain.interest import SequenceEvent
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Learner, Training
from streamrec.model.network.micro_batch import UserHistory, by_user, pad
from streamrec.model.ranking.candidates import encode
from streamrec.model.ranking.context import make_context
from streamrec.model.ranking.updates import Learned
from streamrec.model.retrievers.channels import channel, retrievers_of
from streamrec.model.tables.catalogue import Catalogue
from streamrec.model.tables.content import category_code, content_buckets
from streamrec.model.tables.item_counts import ItemCounts
from streamrec.model.tables.popularity import share_of
from streamrec.model.tables.reservoir import Entry, Reservoir
from streamrec.model.tensors import Arrays, below, prefixed
from streamrec.model.training import effort
from streamrec.model.training.guard import COMPARED_SHARE, Guard, is_held
from streamrec.model.training.lessons import lesson_of
from streamrec.model.training.releases import Releases
from streamrec.model.training.rules import Rules
from streamrec.model.training.stacking import Stacking
from streamrec.service.fence import Fences

TESTED_TOGETHER = 8
"""Events per step of the blend: many small steps learn faster than a few large ones."""

MAX_SEQUENCES = 128
"""Sequences per gradient step."""

TRAINED_LENGTH = 32
"""Maximum sequence length in a gradient step: longer ones cost much more, and add little."""

REPLAY_SHARE = 0.5
"""Replayed sequences per new one."""

DRIFT_EFFORT = 2
DRIFT_STEPS = 50
"""After a drift of the loss on new events: number of steps with more effort, and the factor, without a backlog."""

TRAINING = Training()
"""Settings of a gradient step on a stream."""

_EARLIER_PLACES = {"neighbour": "items.covisitation"}
"""Where checkpoints of format 3 keep what a channel has learned."""

_log = structlog.get_logger(__name__)


class OnlineModel:
    """The complete training state of a version, as restored by a restart or a rollback.

    Parameters
    ----------
    config
        Shape of the network.
    rules
        What it learns and how it lists.
    device
        Device for training.
    catalogue
        Item metadata.
    training
        Settings of a gradient step.
    """

    def __init__(
        self,
        config: ModelConfig,
        rules: Rules,
        *,
        device: torch.device,
        catalogue: Catalogue,
        training: Training = TRAINING,
    ) -> None:
        self.config = config
        _, admit_after, channels, seed = rules
        teachers = {name: channel(name).teacher(seed) for name in channels}
        self.teachers = {name: teacher for name, teacher in teachers.items() if teacher is not None}
        """The half of each channel that learns."""
        self.items = ItemCounts(admit_after=admit_after, on_free=self._forget)
        self.learner = Learner(config, device=device, seed=seed, training=training)
        self.stacking = Stacking(hide_seen=rules.hide_seen, retrievers=retrievers_of(channels), seed=seed)
        self.reservoir = Reservoir()
        self.random = random.Random(seed)  # noqa: S311  # a reproducible sample, no secret
        self.releases = Releases(self.items, self.learner, self.stacking, self.teachers)
        self.newest_produced_at_ms = 0
        self.events = 0
        """Number of counted events."""
        self.contains: dict[int, int] | None = None
        """Next offset of learned records by partition of `user-interests`; `None` if unknown."""
        self.rolled_back_to = 0
        """Events that were counted when the last rollback led here."""
        self.drifts = 0
        """Number of detected drifts."""
        self._drift_steps_left = 0
        self._catalogue = catalogue

    def learn(self, interests: Sequence[UserInterest], guard: Guard, spared: Fences, *, behind: int) -> None:
        """Learn the `new` events of each interest.

        Parameters
        ----------
        guard
            Receives the test results of the serving version.
        spared
            Events that are counted, but not trained on by gradient.
        behind
            Number of waiting events: with a backlog, each event gets less effort.
        """
        self._hear()
        histories = by_user(interests)
        waiting = sum(len(history.new) for history in histories) + behind
        may_teach = [
            [index for index in history.new_liked if history.sequence[index] not in spared]
            if not is_held(history.user_id)
            else []
            for history in histories
        ]
        serving = self.releases.serving
        self.count(histories, self._test(histories, may_teach, guard, waiting))
        for history in (each for each in histories if is_held(each.user_id)):
            events = [(index, history.sequence[index]) for index in history.new_liked]
            # no version could have listed an item that was new
            told = [index for index, event in events if event not in spared and serving.row(event.item_id)]
            if told:
                guard.hold(history.user_id, history.sequence, told[-1])
        fresh = [
            (history.sequence, new)
            for history, taught in zip(histories, may_teach, strict=True)
            if (new := [index for index in taught if index])
        ]
        self._fit(fresh, spared, waiting)
        self.newest_produced_at_ms = max(
            [self.newest_produced_at_ms, *(interest.produced_at_ms for interest in interests)]
        )

    def learned(self, rolled_back: int) -> Learned:
        """Return what has been learned, after this many rollbacks."""
        rollbacks = Rollbacks(rolled_back, self.rolled_back_to)
        return Learned(self.newest_produced_at_ms, self.events, self.contains, rollbacks)

    def state(self) -> tuple[Arrays, dict[str, bytes]]:
        """Return the state as arrays and documents, for a checkpoint."""
        tensors = {
            **prefixed("items", self.items.state()),
            **prefixed("learner", self.learner.state(len(self.items))),
            **prefixed("stacking", self.stacking.state()),
        }
        for name, teacher in self.teachers.items():
            tensors |= prefixed(f"channels.{name}", teacher.state())
        own = {
            "newest_produced_at_ms": self.newest_produced_at_ms,
            "events": self.events,
            "contains": None if self.contains is None else list(self.contains.items()),
            "drifts": self.drifts,
            "rolled_back_to": self.rolled_back_to,
            "offered": self.reservoir.offered,
            "random": self.random.getstate(),
        }
        return tensors, {
            "replay": msgspec.json.encode(self.reservoir.entries),
            "learning": msgspec.json.encode(own),
        }

    def load(self, tensors: Arrays, documents: dict[str, bytes]) -> None:
        """Restore what :meth:`state` returned; only before anything was learned."""
        self.items.load(below("items", tensors))
        self.learner.load(below("learner", tensors))
        self.stacking.load(below("stacking", tensors))
        for name, teacher in self.teachers.items():
            teacher.load(below(f"channels.{name}", tensors) or below(_EARLIER_PLACES.get(name, name), tensors))
        own = json.loads(documents["learning"])
        self.reservoir.load(msgspec.json.decode(documents["replay"], type=list[Entry]), own["offered"])
        version, numbers, gauss = own["random"]
        self.random.setstate((version, tuple(numbers), gauss))
        self.newest_produced_at_ms, self.events = own["newest_produced_at_ms"], own["events"]
        self.drifts = own["drifts"]
        # missing in checkpoints of older releases
        self.rolled_back_to = own.get("rolled_back_to", 0)
        contains = own.get("contains")
        self.contains = None if contains is None else dict(map(tuple, contains))

    def _hear(self) -> None:
        """Apply catalogue updates of known items since the last step."""
        for item in self._catalogue.heard():
            row = self.items.vocabulary.row(item.item_id)
            if row:
                # a catalogue entry without a category keeps the one from events
                category = category_code(item.category or "") or int(self.items.category[row])
                self.items.set_category(row, category)
                self.learner.buckets[row] = content_buckets(category, item.title or "")
                self.releases.described(row)

    def _begin(self, row: int, event: SequenceEvent, expected: np.ndarray | None) -> None:
        """Initialize a new item from its content and the predicted vector of its first user."""
        item = self._catalogue.get(event.item_id)
        category = category_code((item and item.category) or event.category)
        self.items.set_category(row, category)
        self.learner.add_item(row, content_buckets(category, (item and item.title) or ""), expected)
        self.releases.described(row)

    def _test(
        self, histories: Sequence[UserHistory], may_teach: Sequence[Sequence[int]], guard: Guard, waiting: int
    ) -> dict[tuple[int, int], np.ndarray]:
        """Test the serving version, train the blend, and return the predicted vectors for first events of new items."""
        serving = self.releases.serving
        events = [(place, index) for place, history in enumerate(histories) for index in history.new_liked]
        taught = [(place, index) for place, indices in enumerate(may_teach) for index in indices]
        tested = set(self.random.sample(taught, math.ceil(effort.tested_share(waiting) * len(taught))))
        row_of = self.items.vocabulary.row
        wanted = [
            (place, index)
            for place, index in events
            if (place, index) in tested or (index and not row_of(histories[place].sequence[index].item_id))
        ]
        contexts = [
            make_context(serving, histories[place].sequence[:index], hide_seen=self.stacking.hide_seen)
            for place, index in wanted
        ]
        hidden = encode(serving, contexts)
        chosen = [at for at, event in enumerate(wanted) if event in tested]
        for start in range(0, len(chosen), TESTED_TOGETHER):
            together = chosen[start : start + TESTED_TOGETHER]
            asked = [contexts[at] for at in together]
            targets = [serving.row(histories[wanted[at][0]].sequence[wanted[at][1]].item_id) for at in together]
            scores = self.stacking.learn(serving, asked, hidden[together], targets)
            compared = math.ceil(COMPARED_SHARE * len(together))
            losses = [score.loss for score in scores[:compared]]
            guard.compare(serving, asked[:compared], hidden[together[:compared]], targets[:compared], losses)
        return {event: vector for event, vector in zip(wanted, hidden, strict=True) if vector.any()}

    def count(
        self,
        histories: Sequence[UserHistory],
        expected: Mapping[tuple[int, int], np.ndarray] = MappingProxyType({}),
    ) -> None:
        """Count the new events, in all tables and by the channels, without a gradient step.

        Parameters
        ----------
        expected
            Predicted vectors of first events of new items, by index of the history and of the event.
        """
        rows, times_ms, shares = [], [], []
        for place, history in enumerate(histories):
            for index in history.new_of_interest:
                event = history.sequence[index]
                share = share_of(history.sequence, index, is_whole=history.is_whole)
                row, is_new = self.items.observe(event, share)
                if is_new:
                    self._begin(row, event, expected.get((place, index)))
                rows.append(row)
                times_ms.append(event.event_time_ms)
                shares.append(share)
            self.events += len(history.new)
            if not is_held(history.user_id):
                self.reservoir.offer(history.user_id, history.sequence, self.random)
        self.items.popularity.add_many(np.array(rows, np.int64), np.array(times_ms, np.int64), np.array(shares))
        self.learner.recent.extend(rows)
        lesson = lesson_of(histories, self.items.vocabulary.row, np.array(shares))
        for teacher in self.teachers.values():
            teacher.learn(lesson)

    def _forget(self, row: int) -> None:
        """Forget a row that will be given to another item."""
        for teacher in self.teachers.values():
            teacher.forget(row)

    def _fit(self, fresh: list[tuple[list[SequenceEvent], list[int]]], spared: Fences, waiting: int) -> None:
        """Train the sequence model on new events and replayed sequences, with the available effort."""
        left = round(self._visits(waiting) * len(fresh))
        while left > 0:
            self.random.shuffle(fresh)
            for start in range(0, min(left, len(fresh)), MAX_SEQUENCES):
                self._visit(fresh[start : min(start + MAX_SEQUENCES, left)], spared)
            left -= len(fresh)

    def _visits(self, waiting: int) -> float:
        """Return the number of passes over each sequence."""
        if self.stacking.take_drift():
            self._drift_steps_left = DRIFT_STEPS
            self.drifts += 1
            _log.info("drift", loss=round(self.stacking.recent_loss, 3))
        visits = effort.visits(waiting)
        if visits < effort.VISITS[1] or not self._drift_steps_left:
            return visits
        self._drift_steps_left -= 1
        return DRIFT_EFFORT * visits

    def _visit(self, fresh: list[tuple[list[SequenceEvent], list[int]]], spared: Fences) -> None:
        """Run one gradient step on new and replayed sequences."""
        replay = self.reservoir.sample(round(REPLAY_SHARE * len(fresh)), self.random)
        row_of = self.items.vocabulary.row
        batch = fresh + [(entry.sequence, []) for entry in replay]
        padded = pad(
            [(sequence, new, [row_of(event.item_id) for event in sequence]) for sequence, new in batch],
            min(self.config.max_length, TRAINED_LENGTH),
            spared=spared,
        )
        self.releases.moved(self.learner.train(padded, len(self.items), self.items.vocabulary.admitted).tolist())
