"""The channel of the autoencoder: items that the latent distribution of a user's bag of items predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.retrievers.retriever import Items, Lesson, Teacher, Users
from streamrec.model.retrievers.searched import Aims, Publication, SearchedRetriever, followed
from streamrec.model.tables.adaptive_rows import AdaptiveRows
from streamrec.model.tables.bag_autoencoder import BAG, DIM, TARGETS, Batch, Network, gradients, unit
from streamrec.model.tables.covisitation import LEAST_SHARE
from streamrec.model.tables.dense_adam import DenseAdam
from streamrec.model.tables.rows_before import rows_before
from streamrec.model.tensors import Arrays, below, prefixed

NEGATIVES = 256
"""Shared negatives of a step, half from all items, half from the latest events."""

RECENT_EVENTS = 8_192

PASSES, STEP_EVENTS, MAX_STEPS = 2, 64, 4
"""Passes over the new events, events per step, and maximum number of steps per micro-batch."""

KL_WEIGHT, KL_STEPS = 0.02, 1_000
"""Weight of the divergence, and number of steps in which it rises from zero to that."""

NETWORK_STEPS = 16
"""Interval, in steps, of sending the network, which changes slowly."""

_ROW_LEARNING_RATE, _DENSE_LEARNING_RATE = 0.05, 3e-4
_INITIAL_NORM = 0.16
"""Norm of a new vector: small, so that the first steps rotate it fast."""

_SERVED = "bias", "to_mean", "mean_bias", "to_items", "items_bias"
"""Weights that a mean needs; the others are for training."""


def kl_weight(steps: int) -> float:
    """Return the weight of the divergence after some steps."""
    return KL_WEIGHT * min(1.0, steps / KL_STEPS)


class AutoencoderTeacher:
    """Trains the autoencoder on the bags before new events: 388 bytes per item, with what readers know of it.

    Parameters
    ----------
    seed
        Random seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rows = AdaptiveRows(DIM, learning_rate=_ROW_LEARNING_RATE)
        self.network = Network.initial()
        self._adam = DenseAdam(self.network, learning_rate=_DENSE_LEARNING_RATE)
        self._recent = np.zeros(0, np.int64)
        """Rows of the latest events."""
        self._size = 1
        self._lessons = 0
        self._publication = Publication("autoencoder", DIM)
        self._sent = self._narrow()
        self._sent_steps = 0

    def learn(self, lesson: Lesson) -> None:
        """Take a few steps on new events of users with earlier ones."""
        rng = np.random.default_rng((self._seed, self._lessons))
        self._lessons += 1
        new = lesson.new[(lesson.rows[lesson.new] > 0) & (lesson.shares >= LEAST_SHARE)]
        rows = lesson.rows[new]
        self._size = max(self._size, int(lesson.rows.max(initial=0)) + 1)
        self._rows.reserve(self._size)
        bags = rows_before(lesson.ends, lesson.rows, new, BAG)
        self._begin(bags, rows, rng)
        bags = np.where(self._is_known(bags), bags, 0)
        self._recent = np.concatenate([self._recent, rows])[-RECENT_EVENTS:]
        usable = np.flatnonzero(bags.any(axis=1))
        visits = np.concatenate([rng.permutation(usable) for _ in range(PASSES)])[: MAX_STEPS * STEP_EVENTS]
        for start in range(0, len(visits), STEP_EVENTS):
            now = visits[start : start + STEP_EVENTS]
            self._step(bags[now], rows[now], rng)

    def forget(self, row: int) -> None:
        """Clear the vector of a row."""
        self._rows.reserve(row + 1)
        self._rows.set(np.array([row]), np.zeros(DIM, np.float32))
        self._recent = self._recent[self._recent != row]
        self._publication.touch(np.array([row]))

    def changes(self, rows: int, *, everything: bool) -> Arrays:
        """Return the unit vectors that moved, and from time to time the network."""
        is_due = self._adam.steps - self._sent_steps >= NETWORK_STEPS
        if is_due:
            self._sent, self._sent_steps = self._narrow(), self._adam.steps
        moved = self._publication.changes(self._units, rows, everything=everything)
        return {**moved, **(prefixed("autoencoder.network", self._sent) if is_due or everything else {})}

    def state(self) -> Arrays:
        """Return all weights with the states of their optimizers, and what readers know of them."""
        return {
            **prefixed("rows", self._rows.state()),
            **prefixed("adam", self._adam.state()),
            **prefixed("publication", self._publication.state()),
            **prefixed("sent", self._sent),
            "recent": self._recent.copy(),
            "counts": np.array([self._size, self._lessons, self._sent_steps]),
        }

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        if not state:
            return
        self._rows.load(below("rows", state))
        self._adam.load(below("adam", state))
        self._publication.load(below("publication", state))
        self._sent = below("sent", state)
        self._recent = state["recent"].copy()
        self._size, self._lessons, self._sent_steps = state["counts"].tolist()

    def _begin(self, bags: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> None:
        """Give rows without a vector that of their first user, or a random one."""
        distinct, first = np.unique(rows, return_index=True)
        is_new = ~self._is_known(distinct)
        distinct, first = distinct[is_new], first[is_new]
        latent = self.network.latent(self._units(bags[first]), bags[first])
        vectors = self.network.decoded(latent)
        noise, _ = unit(rng.standard_normal((len(distinct), DIM), np.float32))
        is_led = vectors.any(axis=1, keepdims=True)
        self._rows.set(distinct, np.float32(_INITIAL_NORM) * np.where(is_led, vectors, noise))
        self._publication.touch(distinct)

    def _step(self, bags: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> None:
        half = NEGATIVES // 2
        negatives = np.concatenate([rng.integers(1, self._size, half), rng.choice(self._recent, half)])
        negatives = negatives[self._is_known(negatives)]
        among = np.sort(self._recent)
        of_recent = np.searchsorted(among, negatives, "right") - np.searchsorted(among, negatives)
        expected = half / (self._size - 1) + half * of_recent / len(among)
        others = np.take_along_axis(bags, rng.integers(0, BAG, (len(bags), TARGETS - 1)), axis=1)
        batch = Batch(bags, np.column_stack([rows, others]), negatives, np.log(expected).astype(np.float32))
        step = gradients(self.network, self._rows.weights, batch, kl_weight(self._adam.steps), rng)
        self._publication.touch(self._rows.update(step.rows, step.of_rows))
        self._adam.step(step.network)

    def _is_known(self, rows: np.ndarray) -> np.ndarray:
        """Return which rows have a vector."""
        return np.asarray(self._rows.weights[rows].any(axis=-1))

    def _units(self, rows: np.ndarray) -> np.ndarray:
        units, _ = unit(self._rows.weights[rows])
        return units

    def _narrow(self) -> Arrays:
        """Return the network as readers get it."""
        return {name: getattr(self.network, name).astype(np.float16) for name in _SERVED}


class AutoencoderRetriever(SearchedRetriever):
    """Cosine of the vectors of items and of what the mean of a bag's latent distribution predicts.

    Attributes
    ----------
    published
        Unit vectors of items.
    network
        Without the weights that only training needs.
    """

    name = "autoencoder"
    features = "autoencoder", "autoencoder_below_best", "has_bag"
    prior: ClassVar[Mapping[str, float]] = {"autoencoder_below_best": 0.25}
    strength, strength_of_far = 0.7, 0.15

    def __init__(self) -> None:
        self.published = ItemVectors.empty(DIM)
        self.network = Network.initial()

    @classmethod
    def teacher(cls, seed: int, /) -> Teacher:
        """Return an untrained autoencoder."""
        return AutoencoderTeacher(seed)

    def follow(self, earlier: Self, items: Items, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        """Take over vectors and network of the earlier version, and replace what changed."""
        self.published = followed(earlier.published, self.name, changes, items.size, in_place=in_place)
        sent = below("autoencoder.network", changes)
        self.network = earlier.network._replace(**{name: sent[name].astype(np.float32) for name in sent})

    def latent(self, users: Users) -> np.ndarray:
        """Return the mean of each user's latent distribution, zero for users without items, `(B, Z)`, float32."""
        latest = users.own[:, :BAG]
        bags = np.where(latest < len(self.published.steps), latest, 0)
        return self.network.latent(self.published.take(bags), bags)

    def vectors(self, items: Items) -> ItemVectors:  # noqa: ARG002  # its own
        """Return the vectors of items."""
        return self.published

    def aims(self, users: Users) -> Aims:
        """Return what the means predict."""
        directions = self.network.decoded(self.latent(users))
        return Aims(directions, np.ones(len(directions), np.float32))
