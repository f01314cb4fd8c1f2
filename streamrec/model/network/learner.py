"""Gradient training of item embeddings, content embeddings and the sequence model."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamrec.model.network.adam import Adam
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.graphs import ReplayedSteps
from streamrec.model.network.micro_batch import Padded
from streamrec.model.network.rows import RowTable
from streamrec.model.network.sequence_model import SequenceModel, sampled_softmax_loss
from streamrec.model.network.step import Negatives, Step, shares_of
from streamrec.model.network.weights import load_weights, weights_of
from streamrec.model.tables.content import BUCKETS, MAX_PARTS
from streamrec.model.tables.vocabulary import grown
from streamrec.model.tensors import Arrays, below, prefixed

RECENT_EVENTS = 8_192
"""Half of the negatives are sampled from this many latest events, the other half uniformly from all items."""


@dataclass(frozen=True, slots=True)
class Training:
    """Settings of a step.

    Parameters
    ----------
    negatives
        Number of shared negatives per step.
    row_learning_rate, dense_learning_rate
        Learning rates of embeddings, which see few steps each, and of the network.
    average_decay
        Decay of the average of dense weights used for serving: 0.98 averages about the last fifty steps.
    """

    negatives: int = 512
    row_learning_rate: float = 1e-2
    dense_learning_rate: float = 1e-3
    average_decay: float = 0.98


class Learner:
    """Trains on padded sequences; the cost of a step does not depend on the number of items.

    Parameters
    ----------
    config
        Shape of the network.
    device
        Device of weights and tables.
    seed
        Random seed.
    training
        Settings of a step.
    """

    def __init__(
        self, config: ModelConfig, *, device: torch.device, seed: int, training: Training = Training()
    ) -> None:
        self.device = device
        self.training = training
        self.seed = seed
        self.steps = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = SequenceModel(config).to(device)
        self.optimizer = Adam(self.model.parameters(), learning_rate=training.dense_learning_rate)
        self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        self.items = RowTable(config.dim, learning_rate=training.row_learning_rate, device=device)
        self.content = RowTable(config.dim, learning_rate=training.row_learning_rate, device=device)
        self.content.reserve(BUCKETS)
        self.buckets = np.zeros((1024, MAX_PARTS), np.int64)
        self.recent: deque[int] = deque(maxlen=RECENT_EVENTS)
        self.rng = np.random.default_rng(seed)
        self._replayed = ReplayedSteps(self._make, device) if device.type == "cuda" else None

    def add_item(self, row: int, buckets: np.ndarray, direction: np.ndarray | None) -> None:
        """Initialize a free row.

        Parameters
        ----------
        buckets
            Content buckets, `(MAX_PARTS,)`.
        direction
            Predicted vector of its first user: a new item starts near the users who found it.
        """
        if self.items.reserve(row + 1):
            self._forget_graphs()
        self.buckets = grown(self.buckets, row + 1)
        self.buckets[row] = buckets
        at = torch.tensor([row], device=self.device)
        generator = torch.Generator().manual_seed(self.seed + int(self.rng.integers(1 << 40)))
        self.items.reset(at, generator)
        if direction is not None:
            self.items.point(at, torch.from_numpy(direction).to(self.device)[None])

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Return the unit vectors of items, `(n, D)`, float32."""
        parts = self.buckets[rows]
        with torch.inference_mode():
            content = self.content.weight[torch.from_numpy(parts).to(self.device)]
            shares = torch.from_numpy(shares_of(parts)).to(self.device)
            weight = self.items.weight[torch.from_numpy(rows).to(self.device)] + _mixed(content, shares)
            unit: np.ndarray = functional.normalize(weight, dim=-1).cpu().numpy()
        return unit

    def sample_negatives(self, rows_in_use: int) -> Negatives:
        """Sample negatives: half uniformly from all rows, half from the latest events."""
        recent = np.fromiter(self.recent, np.int64, len(self.recent))
        half = self.training.negatives // 2
        rows = np.concatenate([self.rng.integers(1, rows_in_use, half), self.rng.choice(recent, half)])
        distinct, inverse = np.unique(rows, return_inverse=True)
        among_recent = np.sort(recent)
        counts = np.searchsorted(among_recent, distinct, "right") - np.searchsorted(among_recent, distinct, "left")
        expected = half / (rows_in_use - 1) + half * counts / len(recent)
        return Negatives(rows, np.log(expected[inverse]).astype(np.float32))

    def train(
        self, padded: Padded, rows_in_use: int, admitted: Callable[[np.ndarray], np.ndarray] = np.ones_like
    ) -> np.ndarray:
        """Run one step, and return the changed rows.

        Parameters
        ----------
        rows_in_use
            Number of rows to sample negatives from.
        admitted
            Returns which of some rows are trained; by default all.
        """
        if not padded.weights[:, 1:].any():
            return np.zeros(0, np.int64)
        step = Step.of(padded, self.sample_negatives(rows_in_use), self.buckets, admitted)
        self.steps += 1
        with torch.random.fork_rng(devices=[]):
            # dropout uses the global generator: seeded per step, so that a restart is reproducible
            torch.manual_seed(self.seed * 1_000_003 + self.steps)
            if self._replayed:
                self._replayed(step.filled(self.model.config.max_length))
            else:
                self._make(step.on(self.device))
        rows: np.ndarray = step.rows.numpy()
        return rows[rows > 0]

    def loss(self, padded: Padded, rows_in_use: int) -> float:
        """Return the loss of a batch, without dropout and without training."""
        step = Step.of(padded, self.sample_negatives(rows_in_use), self.buckets, np.ones_like).on(self.device)
        self.model.eval()
        with torch.inference_mode():
            return self._loss(step, self.items.weight[step.rows], self.content.weight[step.buckets]).item()

    def set_rates(self, share: float) -> None:
        """Scale the initial learning rates, for a schedule."""
        self.items.learning_rate = self.content.learning_rate = share * self.training.row_learning_rate
        self.optimizer.learning_rate = share * self.training.dense_learning_rate
        self._forget_graphs()

    def state(self, rows: int) -> Arrays:
        """Return the state as arrays, with the first rows of item tables, for a checkpoint."""
        generator = self.rng.bit_generator.state["state"]
        return {
            **prefixed("model", weights_of(self.model)),
            **prefixed("average", weights_of(self.average)),
            **prefixed("adam", self.optimizer.state()),
            **prefixed("items", self.items.state(rows)),
            **prefixed("content", self.content.state(BUCKETS)),
            "buckets": self.buckets[:rows].copy(),
            "recent": np.array(self.recent, np.int64),
            "steps": np.array([self.steps]),
            # the two integers of a PCG64 state have 128 bits
            "random": np.frombuffer(
                b"".join(generator[name].to_bytes(16, "big") for name in ("state", "inc")), np.uint8
            ),
        }

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        name = "other_event_type.weight"
        missing = {name: np.zeros_like(weights_of(self.model)[name])}
        load_weights(self.model, {**missing, **below("model", state)})  # in checkpoints of earlier releases
        load_weights(self.average, {**missing, **below("average", state)})
        self.optimizer.load(below("adam", state))
        self.items.load(below("items", state))
        self.content.load(below("content", state))
        self.buckets = state["buckets"].copy()
        self.recent.extend(state["recent"].tolist())
        self.steps = int(state["steps"][0])
        raw = state["random"].tobytes()
        numbers = {"state": int.from_bytes(raw[:16], "big"), "inc": int.from_bytes(raw[16:], "big")}
        self.rng.bit_generator.state = {**self.rng.bit_generator.state, "state": numbers}
        self._forget_graphs()

    def _make(self, step: Step) -> None:
        """Run a step without synchronizing with the device."""
        own = self.items.weight[step.rows].requires_grad_()
        content = self.content.weight[step.buckets].requires_grad_()
        self.model.train()
        loss = self._loss(step, own, content)
        self.optimizer.forget_gradients()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own gap
        self.optimizer.step()
        assert own.grad is not None
        assert content.grad is not None
        with torch.no_grad():
            self.model.log_temperature.clamp_(min=-3.0, max=-1.6)
            self.items.update(step.rows, own.grad * step.learns[:, None])
            self.content.update(step.buckets, content.grad)
            for average, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                average.lerp_(value, 1 - self.training.average_decay)

    def _loss(self, step: Step, own: Tensor, content: Tensor) -> Tensor:
        """Return the weighted mean loss over the targets, with item rows, `(N, D)`, and content rows, `(M, D)`."""
        mean = _mixed(content[step.parts], step.shares)
        unit = functional.normalize(own + mean, dim=-1) * (step.rows > 0)[:, None]
        # bfloat16 only for the network, and only on a GPU: cosines over the temperature need the precision
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            hidden = self.model(functional.embedding(step.events, unit), step.event_types, step.times_s)
        targets = step.events.flatten()[step.before + 1]
        losses = sampled_softmax_loss(
            hidden.float().flatten(0, 1)[step.before],
            functional.embedding(targets, unit),
            functional.embedding(step.negatives, unit),
            step.log_expected_count,
            targets[:, None] == step.negatives[None, :],
            self.model.log_temperature.exp(),
        )
        return (losses * step.weights).sum() / step.weights.sum()

    def _forget_graphs(self) -> None:
        if self._replayed:
            self._replayed.forget()


def _mixed(parts: Tensor, shares: Tensor) -> Tensor:
    """Return the content vector of each item, `(n, P, D)` to `(n, D)`, zero without content."""
    return (parts * shares[..., None]).sum(1)
