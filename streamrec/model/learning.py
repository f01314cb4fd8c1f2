"""A micro-batch is first a test of what serves, then a lesson.

A step (1) tests what serves on some of the new events and lets the blend learn from them, (2) counts all of them,
(3) trains the sequence model on them and on replayed sequences.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence

import msgspec
import numpy as np
import structlog
import torch

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.model_update import Rollbacks
from streamrec.domain.interest import SequenceEvent
from streamrec.model.candidates import encode
from streamrec.model.catalogue import Catalogue
from streamrec.model.content import category_code, content_buckets
from streamrec.model.context import make_context
from streamrec.model.guard import COMPARED_SHARE, Guard, is_held
from streamrec.model.items import Items
from streamrec.model.learner import Learner
from streamrec.model.micro_batch import UserHistory, by_user, pad
from streamrec.model.popularity import share_of
from streamrec.model.releases import Releases
from streamrec.model.reservoir import Entry, Reservoir
from streamrec.model.sequence_model import ModelConfig
from streamrec.model.stacking import Stacking
from streamrec.model.tensors import Arrays, below, prefixed
from streamrec.model.updates import Learned
from streamrec.service.fence import Fences

STEP_TESTS, TESTED_SHARES = 64, (0.05, 0.4)
"""What serves is tested on so many of the events that wait when a step begins, and the blend learns from them; never on
a smaller or a larger share of them than these. To rank for one costs about a millisecond."""

TESTED_TOGETHER = 8
"""Events of one step of the blend: many small steps learn sooner than few large ones."""

MAX_SEQUENCES = 128
"""Sequences of one gradient step."""

STEP_VISITS, VISITS = 128, (0.25, 2.0)
"""For so many events that wait when a step begins, a sequence with new events is visited; never more seldom or more
often than these for each event. Below one, some are only counted for now and trained when they are replayed. A step
takes about the same time then, whatever waits, and what it learned serves soon after."""

TRAINED_LENGTH = 32
"""Newest events of a sequence in a gradient step: a longer one costs much more, and teaches little."""

REPLAY_SHARE = 0.5
"""Replayed sequences for each fresh one."""

DRIFT_EFFORT = 2
DRIFT_STEPS = 50
"""When the loss on new events has changed, so many steps take so many times the effort, if nothing waits."""

_log = structlog.get_logger(__name__)


class Learning:
    """All that a version is made of, and how it learns; what a restart or a rollback brings back.

    Parameters
    ----------
    config
        Shape of the network.
    hide_seen
        Whether lists hide what is in the user's sequence.
    device
        Where the network trains.
    admit_after
        Events of an item before its row learns.
    seed
        Seeds every draw.
    catalogue
        What is said of items.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        hide_seen: bool,
        device: torch.device,
        admit_after: int,
        seed: int,
        catalogue: Catalogue,
    ) -> None:
        self.config = config
        self.items = Items(admit_after=admit_after)
        self.learner = Learner(config, device=device, seed=seed)
        self.stacking = Stacking(hide_seen=hide_seen, seed=seed)
        self.reservoir = Reservoir()
        self.random = random.Random(seed)  # noqa: S311  # a reproducible sample, no secret
        self.releases = Releases(self.items, self.learner, self.stacking)
        self.newest_produced_at_ms = 0
        self.events = 0
        """Events that were counted."""
        self.contains: dict[int, int] | None = None
        """Partition of `user-interests` → next offset, of the records that are learned; `None` where nobody has said
        so."""
        self.rolled_back_to = 0
        """Events that were counted when the last rollback led here."""
        self.drifts = 0
        """How often the stream has changed."""
        self._drift_steps_left = 0
        self._catalogue = catalogue

    def learn(self, interests: Sequence[UserInterest], guard: Guard, spared: Fences, *, behind: int) -> None:
        """Learn the `new` events of each interest.

        Parameters
        ----------
        guard
            Sees how what serves fares.
        spared
            Events that are counted, and never trained by gradient.
        behind
            Events that wait: with many, each of these gets less effort.
        """
        self._hear()
        histories = by_user(interests)
        waiting = sum(len(history.new) for history in histories) + behind
        may_teach = [
            [index for index in history.new if history.sequence[index] not in spared]
            if not is_held(history.user_id)
            else []
            for history in histories
        ]
        self._count(histories, self._test(histories, may_teach, guard, waiting))
        for history in histories:
            told = [index for index in history.new if history.sequence[index] not in spared]
            if told and is_held(history.user_id):
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
        """Return what is learned by now, after so many rollbacks."""
        rollbacks = Rollbacks(rolled_back, self.rolled_back_to)
        return Learned(self.newest_produced_at_ms, self.events, self.contains, rollbacks)

    def state(self) -> tuple[Arrays, dict[str, bytes]]:
        """Return everything as arrays and documents, for a checkpoint."""
        tensors = {
            **prefixed("items", self.items.state()),
            **prefixed("learner", self.learner.state(len(self.items))),
            **prefixed("stacking", self.stacking.state()),
        }
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
        """Become what :meth:`state` returned; only before anything was learned."""
        self.items.load(below("items", tensors))
        self.learner.load(below("learner", tensors))
        self.stacking.load(below("stacking", tensors))
        own = json.loads(documents["learning"])
        self.reservoir.load(msgspec.json.decode(documents["replay"], type=list[Entry]), own["offered"])
        version, numbers, gauss = own["random"]
        self.random.setstate((version, tuple(numbers), gauss))
        self.newest_produced_at_ms, self.events = own["newest_produced_at_ms"], own["events"]
        self.drifts = own["drifts"]
        # missing in what an older release wrote
        self.rolled_back_to = own.get("rolled_back_to", 0)
        contains = own.get("contains")
        self.contains = None if contains is None else dict(map(tuple, contains))

    def _hear(self) -> None:
        """Take in what the catalogue said of known items since the last step."""
        for item in self._catalogue.heard():
            row = self.items.vocabulary.row(item.item_id)
            if row:
                # a catalogue that names no category does not take away the one that events named
                category = category_code(item.category or "") or int(self.items.category[row])
                self.items.set_category(row, category)
                self.learner.buckets[row] = content_buckets(category, item.title or "")
                self.releases.moved([row])

    def _begin(self, row: int, event: SequenceEvent, expected: np.ndarray | None) -> None:
        """Start a new item from what it is made of and from where the model expected its first user to go."""
        item = self._catalogue.get(event.item_id)
        category = category_code((item and item.category) or event.category)
        self.items.set_category(row, category)
        self.learner.add_item(row, content_buckets(category, (item and item.title) or ""), expected)
        self.releases.moved([row])

    def _test(
        self, histories: Sequence[UserHistory], may_teach: Sequence[Sequence[int]], guard: Guard, waiting: int
    ) -> dict[tuple[int, int], np.ndarray]:
        """Test what serves, let the blend learn, and return where the model expected the first events of new items."""
        serving = self.releases.serving
        events = [(place, index) for place, history in enumerate(histories) for index in history.new]
        taught = [(place, index) for place, indices in enumerate(may_teach) for index in indices]
        tested = set(self.random.sample(taught, math.ceil(_share(STEP_TESTS, waiting, TESTED_SHARES) * len(taught))))
        row_of = self.items.vocabulary.row
        wanted = [
            (place, index)
            for place, index in events
            if (place, index) in tested or (index and not row_of(histories[place].sequence[index].item_id))
        ]
        contexts = [make_context(serving, histories[place].sequence[:index]) for place, index in wanted]
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

    def _count(self, histories: Sequence[UserHistory], expected: dict[tuple[int, int], np.ndarray]) -> None:
        """Let everything that is counted take in the new events."""
        rows, times_ms, shares = [], [], []
        for place, history in enumerate(histories):
            for index in history.new:
                event = history.sequence[index]
                share = share_of(history.sequence, index, is_whole=history.is_whole)
                row, is_new = self.items.observe(history.sequence, index, share)
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

    def _fit(self, fresh: list[tuple[list[SequenceEvent], list[int]]], spared: Fences, waiting: int) -> None:
        """Train the sequence model on new events and on replayed sequences, as often as the time allows."""
        left = round(self._visits(waiting) * len(fresh))
        while left > 0:
            self.random.shuffle(fresh)
            for start in range(0, min(left, len(fresh)), MAX_SEQUENCES):
                self._visit(fresh[start : min(start + MAX_SEQUENCES, left)], spared)
            left -= len(fresh)

    def _visits(self, waiting: int) -> float:
        """Return how often to visit each sequence."""
        if self.stacking.take_drift():
            self._drift_steps_left = DRIFT_STEPS
            self.drifts += 1
            _log.info("drift", loss=round(self.stacking.recent_loss, 3))
        visits = _share(STEP_VISITS, waiting, VISITS)
        if visits < VISITS[1] or not self._drift_steps_left:
            return visits
        self._drift_steps_left -= 1
        return DRIFT_EFFORT * visits

    def _visit(self, fresh: list[tuple[list[SequenceEvent], list[int]]], spared: Fences) -> None:
        """Make one gradient step on fresh sequences and some that are replayed."""
        replay = self.reservoir.sample(round(REPLAY_SHARE * len(fresh)), self.random)
        row_of = self.items.vocabulary.row
        batch = fresh + [(entry.sequence, []) for entry in replay]
        padded = pad(
            [(sequence, new, [row_of(event.item_id) for event in sequence]) for sequence, new in batch],
            min(self.config.max_length, TRAINED_LENGTH),
            spared=spared,
        )
        self.releases.moved(self.learner.train(padded, len(self.items), self.items.vocabulary.admitted).tolist())


def _share(together: int, waiting: int, bounds: tuple[float, float]) -> float:
    """Return the effort for each of the events that wait if all of them are to share so much, within bounds."""
    least, most = bounds
    return min(most, max(least, together / max(waiting, 1)))
