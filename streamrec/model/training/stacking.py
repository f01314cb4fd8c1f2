"""Training of the blend: each event first tests the served lists, then trains the weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamrec.model.network.adam import Adam
from streamrec.model.network.weights import weights_of
from streamrec.model.ranking.blend import blend_for, features_in, rearranged
from streamrec.model.ranking.candidates import find
from streamrec.model.ranking.context import Context
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.retriever import Retriever
from streamrec.model.tables.popularity import CONTROL_HALF_LIFE
from streamrec.model.tensors import Arrays, below, prefixed
from streamrec.model.training.blend_network import BlendNetwork, listwise_loss
from streamrec.model.training.groups import Group, GroupMemory

LEARNING_RATE = 6e-3

AVERAGE_DECAY = 0.99
"""Decay of the average of the weights that serves (Polyak and Juditsky 1992): steps on a few events are noisy."""

REPLAYED_GROUPS = 2
"""Steps on earlier groups of tested events after each step on new ones."""

HIT_AT = 10
"""Cutoff of hits."""

POPULAR_ROWS = 256
"""Number of popular items that the control arm is modelled with: a user may have seen the first ones."""


@dataclass(frozen=True, slots=True)
class Score:
    """Test result of one event.

    Attributes
    ----------
    rank
        Rank of the event's item in the list, from 0; `None` if it was not a candidate.
    loss
        Cross-entropy among the candidates; `None` if it was not a candidate.
    """

    rank: int | None
    loss: float | None


class Stacking:
    """Trains the blend on events that nothing else has been trained on yet.

    Parameters
    ----------
    hide_seen
        As for the ranker.
    retrievers
        The channels whose candidates it ranks.
    seed
        Random seed of initial weights.
    """

    def __init__(self, *, hide_seen: bool, retrievers: tuple[Retriever, ...], seed: int) -> None:
        self.hide_seen, self.retrievers = hide_seen, retrievers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.blend = BlendNetwork(blend_for(retrievers))
        self.average = weights_of(self.blend)
        """Average weights over about the last hundred steps."""
        self.optimizer = Adam(self.blend.parameters(), learning_rate=LEARNING_RATE)
        self.recent_loss = 0.0
        """Moving average of the loss on new events, before they are learned."""
        self._drifted = False
        self.tested = self.hits = self.popular_hits = 0
        """Results of served lists and of the most popular items, since the start."""
        self._popular: tuple[str, np.ndarray] = ("", np.zeros(0, np.int64))
        """The most popular rows, best first, of a version."""
        self._drift: Any = None
        self._memory = GroupMemory()

    def learn(
        self, serving: ServingModel, contexts: Sequence[Context], hidden: np.ndarray, target_rows: Sequence[int]
    ) -> list[Score]:
        """Test the lists of these users against their next events, then train on these."""
        found = find(serving, contexts, hidden)
        places = found.candidates.places(np.asarray(target_rows))
        usable = np.flatnonzero((places >= 0) & (np.asarray(target_rows) > 0))
        scores = [Score(None, None)] * len(contexts)
        self.tested += len(contexts)
        self.popular_hits += sum(map(self._is_popular, [serving] * len(contexts), contexts, target_rows))
        if not len(usable):
            return scores
        group = Group.of(found, places, usable)
        out, losses = self._train(group)
        ranks = (out > out.gather(1, torch.from_numpy(group.targets)[:, None])).sum(1).tolist()
        self.hits += sum(rank < HIT_AT for rank in ranks)
        self._watch(losses.mean().item())
        for index, rank, loss in zip(usable.tolist(), ranks, losses.tolist(), strict=True):
            scores[index] = Score(rank, loss)
        for earlier in self._memory.draw(REPLAYED_GROUPS):
            self._train(earlier)
        self._memory.add(group)
        return scores

    def _train(self, group: Group) -> tuple[Tensor, Tensor]:
        """Take a step; return the scores before it, side by side, and the losses by event."""
        out = group.scores(self.blend)
        losses = listwise_loss(out, torch.from_numpy(group.targets))
        self.optimizer.forget_gradients()
        losses.mean().backward()  # type: ignore[no-untyped-call]  # torch's own gap
        self.optimizer.step()
        share = max(1.0 - AVERAGE_DECAY, 1.0 / self.optimizer.steps)
        now = weights_of(self.blend)
        # new arrays: earlier ones may still be on their way into a checkpoint
        self.average = {name: mean + share * (now[name] - mean) for name, mean in self.average.items()}
        return out.detach(), losses.detach()

    def _watch(self, loss: float) -> None:
        self.recent_loss += 0.02 * (loss - self.recent_loss) if self.recent_loss else loss
        if self._drift is None:
            self._drift = new_drift_detector()
        # the detector gets one value per step: this is cheap, and single events are too noisy
        self._drift.update(loss)
        self._drifted |= self._drift.drift_detected

    def _is_popular(self, serving: ServingModel, context: Context, target_row: int) -> bool:
        """Return whether an item is in the top 10 of a user's list in the control arm."""
        version, rows = self._popular
        if version != serving.version:
            counts = serving.counts[: serving.size, CONTROL_HALF_LIFE]
            rows = np.argsort(-counts, kind="stable")[:POPULAR_ROWS]
            self._popular = (serving.version, rows)
        if self.hide_seen:
            rows = rows[~np.isin(rows, context.rows)]
        return target_row > 0 and target_row in rows[:HIT_AT]

    def take_drift(self) -> bool:
        """Return whether the losses since the last call indicate a drift."""
        drifted, self._drifted = self._drifted, False
        return drifted

    def changes(self) -> Arrays:
        """Return the average weights by name, for a version."""
        return prefixed("blend", {**self.blend.weights(), **self.average})

    def state(self) -> Arrays:
        """Return the state as arrays, for a checkpoint."""
        parts = {
            "blend": self.blend.weights(),
            "average": self.average,
            "adam": self.optimizer.state(),
            "groups": self._memory.state(),
        }
        return {name: value for part, arrays in parts.items() for name, value in prefixed(part, arrays).items()}

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        weights = below("blend", state)
        # missing in checkpoints of older releases
        self.blend.load({**weights, **below("average", state)})
        self.average = weights_of(self.blend)
        self.blend.load(weights)
        self.optimizer.load(self.blend.moments(weights, below("adam", state)))
        if groups := below("groups", state):
            features = rearranged(groups["features"], features_in(weights), self.blend.features)
            self._memory.load({**groups, "features": features})


def new_drift_detector() -> Any:  # noqa: ANN401  # river has no types
    """Return a drift detector for the losses."""
    return _adwin()()


@cache
def _adwin() -> Any:  # noqa: ANN401  # river has no types
    """Import the class without its package, which imports scipy and data sets: a second in each trainer's start."""
    package = ModuleType("river.drift")
    package.__path__ = list(find_spec("river.drift").submodule_search_locations)  # type: ignore[union-attr, arg-type]
    sys.modules["river.drift"] = package
    try:
        return import_module("river.drift.adwin").ADWIN
    finally:
        del sys.modules["river.drift"]  # others may import all of it
