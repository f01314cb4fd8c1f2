"""The same model, periodically retrained from scratch, as is common practice."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from streamrec.contracts.derived import UserInterest
from streamrec.domain.interest import SequenceEvent
from streamrec.model.network.micro_batch import Padded, UserHistory, by_user, pad
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.training.guard import Guard
from streamrec.model.training.online_model import MAX_SEQUENCES, TRAINED_LENGTH, OnlineModel
from streamrec.service.fence import Fences

MAX_EVENTS = 100_000
"""Number of the latest events to train on."""

HELD_OUT_SHARE = 0.2
"""Share of these events, the latest, held out for early stopping and for training the blend."""

MAX_EPOCHS = 30
PATIENCE = 2
"""Epochs without a lower held-out loss before stopping."""

CONTEXT = 8
"""Overlap in events of the parts of sequences longer than a training step accepts."""

BATCH_EVENTS = 1_024
NO_EFFORT = 1 << 20
"""Backlog passed to a step, so that it mostly counts."""

Part = tuple[list[SequenceEvent], list[int]]


class Retrained:
    """Trains a new model on the events before each retraining point, in epochs with early stopping.

    Between the points it is served like :class:`~streamrec.evaluation.baselines.frozen.Frozen`.

    Parameters
    ----------
    new_model
        Factory of untrained models; used without a guard.
    hide_seen
        As for the ranker.
    micro_batch_events
        Events per step on held-out data.
    """

    name = "retrained"

    def __init__(self, new_model: Callable[[], OnlineModel], *, hide_seen: bool, micro_batch_events: int) -> None:
        self._micro_batch_events = micro_batch_events
        self._new_model = new_model
        self._hide_seen = hide_seen
        self._ranker = ModelRanker(hide_seen=hide_seen)
        self._newest: deque[UserInterest] = deque(maxlen=MAX_EVENTS)

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[list[str]]:
        """Return each user's list."""
        return [items.ids for items in self._ranker.rank(interests, k=k)]

    def count(self, interest: UserInterest) -> None:
        """Store an event for the next training, and count it."""
        self._newest.append(interest)
        if self._ranker.model_version:
            self._ranker.count(interest)

    def retrain(self) -> None:
        """Train a new model on the stored events, and serve it from now on."""
        model, guard = self._new_model(), Guard(hide_seen=self._hide_seen)
        interests = list(self._newest)
        held_out = int(HELD_OUT_SHARE * len(interests))
        earlier, later = interests[: len(interests) - held_out], interests[len(interests) - held_out :]
        for start in range(0, len(earlier), BATCH_EVENTS):
            model.learn(earlier[start : start + BATCH_EVENTS], guard, Fences(), behind=NO_EFFORT)
        length = min(model.config.max_length, TRAINED_LENGTH)
        _train_in_epochs(model, _parts(earlier, length), by_user(later), length)
        self._ranker = ModelRanker(hide_seen=self._hide_seen)
        self._release(model, "0")
        for start in range(0, len(later), self._micro_batch_events):
            model.learn(later[start : start + self._micro_batch_events], guard, Fences(), behind=0)
            self._release(model, str(1 + start))

    def _release(self, model: OnlineModel, version: str) -> None:
        if model.releases.is_due:
            _, records = model.releases.make(version, model.learned(0))
            for record in records:
                self._ranker.apply_update(record)


def _parts(interests: Sequence[UserInterest], length: int) -> list[Part]:
    """Split each user's events into parts for training steps, with each event as a target once."""
    events: dict[str, list[SequenceEvent]] = {}
    for interest in interests:
        events.setdefault(interest.user_id, []).append(interest.sequence[-1])
    parts = []
    for own in events.values():
        for start in range(0, len(own), length - CONTEXT):
            before = max(0, start - CONTEXT)
            part = own[before : start + length - CONTEXT]
            if len(part) > 1:
                parts.append((part, list(range(start - before, len(part)))))
    return parts


def _train_in_epochs(model: OnlineModel, parts: list[Part], held_out: list[UserHistory], length: int) -> None:
    """Train until the held-out loss stops falling, and keep the weights of its minimum."""
    rows, learner = len(model.items), model.learner
    tests = list(_batches(model, [(history.sequence, history.new) for history in held_out], length))
    for padded in tests:
        padded.weights[padded.weights < 1.0] = 0.0  # earlier events are only context here; they were trained on
    best, best_loss, since = learner.state(rows), math.inf, 0
    for _ in range(MAX_EPOCHS if parts and tests else 0):
        model.random.shuffle(parts)
        for padded in _batches(model, parts, length):
            learner.train(padded, rows)
        loss = sum(learner.loss(padded, rows) for padded in tests) / len(tests)
        if loss < best_loss:
            best, best_loss, since = learner.state(rows), loss, 0
        else:
            since += 1
        if since == PATIENCE:
            break
    learner.load(best)


def _batches(model: OnlineModel, parts: Sequence[Part], length: int) -> Iterator[Padded]:
    row_of = model.items.vocabulary.row
    for start in range(0, len(parts), MAX_SEQUENCES):
        yield pad(
            [
                (sequence, new, [row_of(event.item_id) for event in sequence])
                for sequence, new in parts[start : start + MAX_SEQUENCES]
            ],
            length,
        )
