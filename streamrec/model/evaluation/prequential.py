"""Prequential evaluation (Vinagre et al. 2015, arXiv 1504.08175): recommend, score, then learn, in stream order.

What runs is the workers' own fold, training step and ranking. A user's list is the one that was made right after the
user's last event, with the model version that served then, as a reader of the topic would find it; nothing knows what
comes later. Until a micro-batch is full its events are in the users' sequences, not in the model.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.domain.event import Event
from streamrec.domain.interest import InterestState
from streamrec.errors import StreamrecError
from streamrec.model.evaluation.metrics import CUTOFF, NOT_LISTED, Scores
from streamrec.model.ranker import ModelRanker
from streamrec.model.trainer import Trainer


def one_cpu_thread() -> torch.device:
    """Keep this process's training and ranking to one thread of the CPU, and return that device."""
    torch.set_num_threads(1)
    return torch.device("cpu")


class Baseline(Protocol):
    """Something that ranks all items for a user, to compare with; it may hold several rankings."""

    def ranks(self, user_id: str, item_id: str) -> np.ndarray:
        """Return the place of an item in each ranking."""

    def learn_one(self, user_id: str, item_id: str, event_time_ms: int) -> None:
        """Take in an event."""


@dataclass(slots=True)
class Costs:
    """Processor time of the thread, by what it was spent on."""

    train_s: float = 0.0
    apply_s: float = 0.0
    rank_s: float = 0.0
    events: int = 0


@dataclass(slots=True)
class Prequential:
    """Plays a stream through a trainer and a ranker in one thread.

    Parameters
    ----------
    trainer, ranker
        What is judged.
    baseline
        What it is compared with, on the same events and with every event known at once.
    micro_batch_events
        Events of a training step; the version after it serves at once.
    sequence_length
        Newest events of a user's sequence.
    """

    trainer: Trainer
    ranker: ModelRanker
    baseline: Baseline
    micro_batch_events: int
    sequence_length: int
    scores: Scores = field(default_factory=Scores)
    costs: Costs = field(default_factory=Costs)
    listed: set[str] = field(default_factory=set)
    """Items that were in any list that was scored."""
    _states: dict[str, InterestState] = field(default_factory=dict)
    _lists: dict[str, list[str]] = field(default_factory=dict)
    _default: tuple[str, list[str]] = ("", [])
    _known: set[str] = field(default_factory=set)
    _waiting: list[UserInterest] = field(default_factory=list)

    def play(self, events: Iterable[Event], *, unscored: int) -> None:
        """Play events; the first ones are learned without being scored."""
        for number, event in enumerate(events):
            if number >= unscored:
                self._score(event)
            self._learn(event)

    def _score(self, event: Event) -> None:
        items = self._lists.get(event.user_id) or self._default_list()
        self.listed.update(items)
        self.scores.ranks.append(items.index(event.item_id) if event.item_id in items else NOT_LISTED)
        self.scores.baselines.append(self.baseline.ranks(event.user_id, event.item_id))
        self.scores.new_items.append(event.item_id not in self._known)

    def _learn(self, event: Event) -> None:
        self._known.add(event.item_id)
        self.baseline.learn_one(event.user_id, event.item_id, event.event_time_ms)
        state = self._states.setdefault(event.user_id, InterestState())
        state.fold(event, sequence_length=self.sequence_length)
        state.version += 1
        interest = _interest(event, state)
        started_s = time.thread_time()
        self._lists[event.user_id] = [item.item_id for item in self.ranker.rank([interest], k=CUTOFF)[0]]
        self.costs.rank_s += time.thread_time() - started_s
        self.costs.events += 1
        self._waiting.append(interest)
        if len(self._waiting) >= self.micro_batch_events:
            self._train()

    def _train(self) -> None:
        started_s = time.thread_time()
        self.trainer.train(self._waiting, behind=0)
        records = self.trainer.take_update()
        if self.trainer.condemned:
            raise StreamrecError(f"event {self.costs.events}: {self.trainer.condemned}; a stream cannot be rolled back")
        trained_s = time.thread_time()
        for record in records:
            self.ranker.apply_update(record)
        self.costs.train_s += trained_s - started_s
        self.costs.apply_s += time.thread_time() - trained_s
        self._waiting = []

    def _default_list(self) -> list[str]:
        version = self.ranker.model_version
        if version != self._default[0] or not version:
            self._default = (version, [item.item_id for item in self.ranker.default(k=CUTOFF)])
        return self._default[1]


def _interest(event: Event, state: InterestState) -> UserInterest:
    """Return what `interests` says of a user, without the summaries, which the model does not read."""
    return UserInterest(
        user_id=event.user_id,
        state_version=state.version,
        event_time_ms=state.sequence[-1].event_time_ms,
        produced_at_ms=event.event_time_ms,
        sequence=list(state.sequence),
        new=[EventPosition(event.source.event_type, event.source.partition, event.offset)],
        short_term={},
        long_term={},
        long_term_items={},
        transitions=[],
        events_count=state.events_count,
    )
