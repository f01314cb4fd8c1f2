"""Ranks all items by a blend of the sequence model and similar sessions.

As in serving, retrievers return candidates with features, and a small network, trained on events that nothing else was
trained on (Wolpert 1992), ranks them. Items that no retriever returns rank below all candidates.

Shapes: B prefixes, N rows, C candidates of all prefixes, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamrec.evaluation.metrics import NOT_LISTED
from streamrec.evaluation.sequences import Sequences
from streamrec.evaluation.session_neighbours import SessionNeighbours, Weights
from streamrec.model.ranking.blend import Blend
from streamrec.model.training.blend_network import BlendNetwork, listwise_loss

FEATURES = (
    "logit_below_best",
    "log_probability",
    "neighbour",
    "is_neighbour",
    "repeats",
    "repeat_recency",
    "times_seen",
    "popularity_now",
    "popularity_ever",
    "prefix_length",
    "sureness",
)
"""Features of a candidate, scaled to about 1."""

PRIOR = {"log_probability": 1.0, "neighbour": 0.5}
MODEL_CANDIDATES = 100
CHUNK = 512
LEARNED_TOGETHER = 64
LEARNING_RATE = 3e-3
_FLOOR = 1e-4


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries to a ranking.

    Attributes
    ----------
    prefixes
        Prefixes, oldest first, truncated to the model's length.
    hidden
        Predicted unit vectors of the next item, `(B, D)`.
    targets
        Row of the next item, `(B,)`.
    seen
        Seen items to exclude; `None` if items may repeat.
    """

    prefixes: Sequences
    hidden: np.ndarray
    targets: np.ndarray
    seen: Sequences | None

    def take(self, chosen: np.ndarray) -> Questions:
        """Return a subset of the queries."""
        seen = None if self.seen is None else self.seen.take(chosen)
        return Questions(self.prefixes.take(chosen), self.hidden[chosen], self.targets[chosen], seen)

    def logits(self, vectors: np.ndarray, temperature: float = 1.0) -> Tensor:
        """Return the score of every row, -inf for excluded ones, `(B, N)`."""
        with torch.inference_mode():
            logits: Tensor = torch.from_numpy(self.hidden / np.float32(temperature)) @ torch.from_numpy(vectors).T
            logits[:, 0] = -torch.inf
            if self.seen is not None:
                logits[torch.from_numpy(self.seen.sequence_of_event()), torch.from_numpy(self.seen.rows)] = -torch.inf
        return logits

    def model_ranks(self, vectors: np.ndarray) -> np.ndarray:
        """Return the rank of each target by the sequence model alone, `NOT_LISTED` if excluded, `(B,)`."""
        ranks = np.full(len(self.targets), NOT_LISTED)
        for chosen in _chunks(len(ranks)):
            part = self.take(chosen)
            logits = part.logits(vectors)
            own = logits.gather(1, torch.from_numpy(part.targets)[:, None])
            better = (logits >= own).sum(1) - 1
            ranks[chosen] = torch.where(own[:, 0].isfinite(), better, NOT_LISTED).numpy()
        return ranks


@dataclass(slots=True)
class Knowledge:
    """Knowledge about items available to a ranking.

    Attributes
    ----------
    vectors
        Unit vectors by row, the padding row first, `(N, D)`.
    temperature
        Divisor of cosines.
    neighbours
        Remembered sessions.
    counts_now, counts_ever
        Number of occurrences of each item in the last time slice and in all of them, `(N,)`.
    """

    vectors: np.ndarray
    temperature: float
    neighbours: SessionNeighbours
    counts_now: np.ndarray
    counts_ever: np.ndarray


@dataclass(frozen=True, slots=True)
class Described:
    """Candidates of some queries with their features, in order of the queries."""

    questions: np.ndarray
    features: np.ndarray
    starts: np.ndarray
    targets: np.ndarray
    """Index of each query's target among its candidates, -1 if missing, `(B,)`."""


def describe(known: Knowledge, asked: Questions) -> Described:
    """Return the candidates of some queries."""
    size = len(asked.hidden)
    logits = asked.logits(known.vectors, known.temperature)
    width = logits.shape[1]
    strongest, nearest = logits.topk(min(MODEL_CANDIDATES, width), sorted=False)
    # the probability among the nearest only: among all items it would take as long as scoring them
    partition, best = torch.logsumexp(strongest, 1).numpy(), strongest.amax(1).numpy()
    near = known.neighbours.weigh(asked.prefixes, width)
    own = asked.prefixes.sequence_of_event() * width + asked.prefixes.rows
    by_model = (nearest.numpy() + np.arange(size)[:, None] * width).ravel()
    keys = np.unique(np.concatenate([by_model, near.keys, own]))
    flat = logits.numpy().reshape(-1)
    keys = keys[flat[keys] > -np.inf]
    questions, rows = np.divmod(keys, width)
    features = np.zeros((len(keys), len(FEATURES)), np.float32)
    logit = flat[keys]
    features[:, 0] = 0.25 * (logit - best[questions])
    features[:, 1] = 0.25 * (logit - partition[questions])
    _add_neighbours(features, near, keys)
    _add_repeats(features, asked.prefixes, keys, width)
    features[:, 7] = 0.3 * np.log1p(known.counts_now[rows])
    features[:, 8] = 0.3 * np.log1p(known.counts_ever[rows])
    features[:, 9] = 0.5 * np.log1p(asked.prefixes.lengths[questions])
    features[:, 10] = 0.25 * (best - partition)[questions]
    wanted = np.arange(size) * width + asked.targets
    starts = np.searchsorted(questions, np.arange(size + 1))
    places = _places(keys, wanted)
    return Described(questions, features, starts, np.where(places >= 0, places - starts[:-1], -1))


class Ranks(NamedTuple):
    """Ranks of the targets of some queries, from 0, `NOT_LISTED` if no retriever returned them, `(B,)`."""

    blended: np.ndarray
    model_alone: np.ndarray
    """By the sequence model alone: exact below `MODEL_CANDIDATES`, since every better item is a candidate."""


class BlendedRanking:
    """Trains the weights of the features, and ranks."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.blend = BlendNetwork(Blend.new(FEATURES, PRIOR))

    def learn(self, known: Knowledge, asked: Questions, *, epochs: int) -> float:
        """Train on queries whose targets nothing in `known` has learned; return the loss of the last pass."""
        rng = np.random.default_rng(self.seed)
        parts = [describe(known, asked.take(chosen)) for chosen in _chunks(len(asked.targets))]
        steps = [
            (part, chosen)
            for part in parts
            for chosen in np.array_split(np.flatnonzero(part.targets >= 0), -(-CHUNK // LEARNED_TOGETHER))
            if len(chosen)
        ]
        optimizer = torch.optim.Adam(self.blend.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, epochs * len(steps))
        losses: list[float] = []
        for _ in range(epochs):
            losses = []
            for index in rng.permutation(len(steps)):
                part, chosen = steps[index]
                scores = _side_by_side(self.blend, part, chosen)
                loss = listwise_loss(scores, torch.from_numpy(part.targets[chosen])).mean()
                losses.append(loss.item())
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own gap
                optimizer.step()
                schedule.step()
        return float(np.mean(losses)) if losses else float("nan")

    def ranks(self, known: Knowledge, asked: Questions) -> Ranks:
        """Return the rank of each target."""
        blended, alone = np.full((2, len(asked.targets)), NOT_LISTED)
        for chosen in _chunks(len(blended)):
            part = describe(known, asked.take(chosen))
            with torch.inference_mode():
                scores = self.blend(torch.from_numpy(part.features)).numpy()
            blended[chosen] = _places_of_targets(part, scores)
            alone[chosen] = _places_of_targets(part, part.features[:, 0])
        return Ranks(blended, alone)


def _places_of_targets(part: Described, scores: np.ndarray) -> np.ndarray:
    has = np.flatnonzero(part.targets >= 0)
    own = np.full(len(part.targets), np.inf, np.float32)
    own[has] = scores[part.starts[has] + part.targets[has]]
    # ties rank above the target, so that it has no advantage
    better = np.bincount(part.questions, scores >= own[part.questions], len(own)).astype(np.int64) - 1
    return np.where(part.targets >= 0, better, NOT_LISTED)


def _side_by_side(blend: BlendNetwork, part: Described, chosen: np.ndarray) -> Tensor:
    """Return the scores of some queries' candidates, padded with -inf, `(len(chosen), C)`."""
    lengths = np.diff(part.starts)[chosen]
    place = np.arange(lengths.max())
    is_candidate = place < lengths[:, None]
    at = (part.starts[chosen][:, None] + place)[is_candidate]
    scores = torch.full(is_candidate.shape, -torch.inf)
    return scores.masked_scatter(torch.from_numpy(is_candidate), blend(torch.from_numpy(part.features[at])))


def _add_neighbours(features: np.ndarray, near: Weights, keys: np.ndarray) -> None:
    place = _places(near.keys, keys)
    found = place >= 0
    features[found, 2] = 0.3 * (np.log(near.values[place[found]] + _FLOOR) - np.log(_FLOOR))
    features[found, 3] = 1.0


def _add_repeats(features: np.ndarray, prefixes: Sequences, keys: np.ndarray, width: int) -> None:
    owner = prefixes.sequence_of_event()
    steps_back = prefixes.starts[1:][owner] - 1 - np.arange(len(owner))
    own, inverse = np.unique(owner * width + prefixes.rows, return_inverse=True)
    newest = np.full(len(own), 1 << 30)
    np.minimum.at(newest, inverse, steps_back)
    times = np.bincount(inverse, minlength=len(own))
    place = _places(own, keys)
    repeats = place >= 0
    features[repeats, 4] = 1.0
    features[repeats, 5] = 1.0 / (1.0 + newest[place[repeats]])
    features[repeats, 6] = np.log1p(times[place[repeats]])


def _places(among: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the index of each key in an ascending array, -1 if missing."""
    if not len(among):
        return np.full(len(keys), -1)
    at = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    found: np.ndarray = np.where(among[at] == keys, at, -1)
    return found


def _chunks(size: int) -> list[np.ndarray]:
    return np.split(np.arange(size), np.arange(CHUNK, size, CHUNK)) if size else []
