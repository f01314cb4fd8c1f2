"""What is trained by gradient: item rows, content rows and the sequence model."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamrec.model.content import BUCKETS, MAX_PARTS
from streamrec.model.micro_batch import Padded
from streamrec.model.rows import RowTable
from streamrec.model.sequence_model import ModelConfig, SequenceModel, sampled_softmax_loss
from streamrec.model.tensors import Arrays, adam_state, below, load_adam_state, load_weights, prefixed, weights_of
from streamrec.model.vocabulary import grown

RECENT_EVENTS = 8_192
"""Half of the negatives are items of so many newest events, the other half are drawn from all items alike."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a step is made.

    Parameters
    ----------
    negatives
        Items that all targets of a step are told from.
    row_learning_rate, dense_learning_rate
        Of item and content rows, which see few steps each, and of the network.
    average_decay
        Dense weights serve as an average: 0.98 is one over about the last fifty steps.
    """

    negatives: int = 512
    row_learning_rate: float = 1e-2
    dense_learning_rate: float = 1e-3
    average_decay: float = 0.98


@dataclass(frozen=True, slots=True)
class Negatives:
    """A sample of items that all targets of a step share.

    Attributes
    ----------
    rows
        `(K,)`, may repeat.
    log_expected_count
        How often each is expected in such a sample, `(K,)`.
    """

    rows: np.ndarray
    log_expected_count: np.ndarray


class Learner:
    """Trains on padded sequences; the cost of a step does not depend on the number of items.

    Parameters
    ----------
    config
        Shape of the network.
    device
        Where weights and tables live.
    seed
        Seeds every draw.
    training
        How a step is made.
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
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=training.dense_learning_rate, fused=True)
        self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        self.items = RowTable(config.dim, learning_rate=training.row_learning_rate, device=device)
        self.content = RowTable(config.dim, learning_rate=training.row_learning_rate, device=device)
        self.content.reserve(BUCKETS)
        self.buckets = np.zeros((1024, MAX_PARTS), np.int64)
        self.recent: deque[int] = deque(maxlen=RECENT_EVENTS)
        self.rng = np.random.default_rng(seed)

    def add_item(self, row: int, buckets: np.ndarray, direction: np.ndarray | None) -> None:
        """Begin with a row that was free.

        Parameters
        ----------
        buckets
            Its content, `(MAX_PARTS,)`.
        direction
            Where the model expected the first user's next item: a new item starts near those who found it.
        """
        self.items.reserve(row + 1)
        self.buckets = grown(self.buckets, row + 1)
        self.buckets[row] = buckets
        at = torch.tensor([row], device=self.device)
        generator = torch.Generator().manual_seed(self.seed + int(self.rng.integers(1 << 40)))
        self.items.reset(at, generator)
        if direction is not None:
            self.items.point(at, torch.from_numpy(direction).to(self.device)[None])

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Return the unit vectors of items, `(n, D)`, float32."""
        with torch.inference_mode():
            weight = self.items.weight[self._on_device(rows)] + self._mean(self.content.weight, self.buckets[rows])
            unit: np.ndarray = functional.normalize(weight, dim=-1).cpu().numpy()
        return unit

    def sample_negatives(self, rows_in_use: int) -> Negatives:
        """Draw negatives: half from all rows alike, half from the newest events."""
        recent = np.fromiter(self.recent, np.int64, len(self.recent))
        half = self.training.negatives // 2
        rows = np.concatenate([self.rng.integers(1, rows_in_use, half), self.rng.choice(recent, half)])
        distinct, inverse = np.unique(rows, return_inverse=True)
        among_recent = np.sort(recent)
        counts = np.searchsorted(among_recent, distinct, "right") - np.searchsorted(among_recent, distinct, "left")
        expected = half / (rows_in_use - 1) + half * counts / len(recent)
        return Negatives(rows, np.log(expected[inverse]).astype(np.float32))

    def train(self, padded: Padded, rows_in_use: int) -> np.ndarray:
        """Make one step, and return the rows that changed."""
        target_weights = padded.weights[:, 1:]
        if not target_weights.any():
            return np.zeros(0, np.int64)
        negatives = self.sample_negatives(rows_in_use)
        rows, inverse = np.unique(np.concatenate([padded.rows.ravel(), negatives.rows]), return_inverse=True)
        at = self._on_device(rows)
        own = self.items.weight[at].requires_grad_()
        parts = self.buckets[rows]
        buckets, bucket_inverse = np.unique(parts, return_inverse=True)
        bucket_at = self._on_device(buckets)
        content = self.content.weight[bucket_at].requires_grad_()
        # row and bucket 0 stand for nothing, and come first where they come: no mask, for which a GPU would be waited
        first, first_bucket = int(rows[0] == 0), int(buckets[0] == 0)
        self.steps += 1
        with torch.random.fork_rng(devices=[]):
            # dropout draws from the global source: seeded by the step, so that a restart repeats it
            torch.manual_seed(self.seed * 1_000_003 + self.steps)
            mean = self._mean(content, bucket_inverse.reshape(parts.shape), present=parts > 0)
            unit = functional.normalize(own + mean, dim=-1) * (at > 0)[:, None]
            self.model.train()
            loss = self._loss(padded, negatives, unit, self._on_device(inverse))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own gap
        self.optimizer.step()
        with torch.no_grad():
            self.model.log_temperature.clamp_(min=-3.0, max=-1.6)
            assert own.grad is not None
            self.items.update(at[first:], own.grad[first:])
            if content.grad is not None:
                self.content.update(bucket_at[first_bucket:], content.grad[first_bucket:])
            for average, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                average.lerp_(value, 1 - self.training.average_decay)
        changed: np.ndarray = rows[first:]
        return changed

    def loss(self, padded: Padded, rows_in_use: int) -> float:
        """Return the loss that a step would begin with, without dropout, and learn nothing."""
        negatives = self.sample_negatives(rows_in_use)
        rows, inverse = np.unique(np.concatenate([padded.rows.ravel(), negatives.rows]), return_inverse=True)
        unit = torch.from_numpy(self.vectors(rows) * (rows > 0)[:, None]).to(self.device)
        self.model.eval()
        with torch.inference_mode():
            return self._loss(padded, negatives, unit, torch.from_numpy(inverse).to(self.device)).item()

    def set_rates(self, share: float) -> None:
        """Let steps be so much smaller than at first, for a schedule."""
        self.items.learning_rate = self.content.learning_rate = share * self.training.row_learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.training.dense_learning_rate

    def state(self, rows: int) -> Arrays:
        """Return everything as arrays, item tables with their first rows, for a checkpoint."""
        generator = self.rng.bit_generator.state["state"]
        return {
            **prefixed("model", weights_of(self.model)),
            **prefixed("average", weights_of(self.average)),
            **prefixed("adam", adam_state(self.optimizer)),
            **prefixed("items", self.items.state(rows)),
            **prefixed("content", self.content.state(BUCKETS)),
            "buckets": self.buckets[:rows].copy(),
            "recent": np.array(self.recent, np.int64),
            "steps": np.array([self.steps]),
            # the two numbers of a PCG64 have 128 bits
            "random": np.frombuffer(
                b"".join(generator[name].to_bytes(16, "big") for name in ("state", "inc")), np.uint8
            ),
        }

    def load(self, state: Arrays) -> None:
        """Become what :meth:`state` returned."""
        load_weights(self.model, below("model", state))
        load_weights(self.average, below("average", state))
        load_adam_state(self.optimizer, below("adam", state))
        self.items.load(below("items", state))
        self.content.load(below("content", state))
        self.buckets = state["buckets"].copy()
        self.recent.extend(state["recent"].tolist())
        self.steps = int(state["steps"][0])
        raw = state["random"].tobytes()
        numbers = {"state": int.from_bytes(raw[:16], "big"), "inc": int.from_bytes(raw[16:], "big")}
        self.rng.bit_generator.state = {**self.rng.bit_generator.state, "state": numbers}

    def _loss(self, padded: Padded, negatives: Negatives, unit: Tensor, inverse: Tensor) -> Tensor:
        """Return the weighted mean loss over the targets of a batch."""
        placed = inverse[: padded.rows.size].view(padded.rows.shape)
        negative_at = inverse[padded.rows.size :]
        # half width for the network alone, and on a GPU alone: a cosine over the temperature needs its digits
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            hidden = self.model(
                functional.embedding(placed, unit), self._on_device(padded.event_types), self._on_device(padded.times_s)
            )
        at = np.flatnonzero(padded.weights[:, 1:])
        users, places = np.divmod(at, padded.rows.shape[1] - 1)
        before = self._on_device(users * padded.rows.shape[1] + places)
        weights = self._on_device(padded.weights[:, 1:].ravel()[at])
        targets = placed.flatten()[before + 1]
        losses = sampled_softmax_loss(
            hidden.float().flatten(0, 1)[before],
            functional.embedding(targets, unit),
            functional.embedding(negative_at, unit),
            self._on_device(negatives.log_expected_count),
            targets[:, None] == negative_at[None, :],
            self.model.log_temperature.exp(),
        )
        return (losses * weights).sum() / weights.sum()

    def _mean(self, table: Tensor, index: np.ndarray, *, present: np.ndarray | None = None) -> Tensor:
        """Return the mean of the parts of each item, zero without any, `(n, D)`; bucket 0 is no part."""
        is_part = index > 0 if present is None else present
        if not is_part.any():
            return table.new_zeros(len(index), table.shape[1])
        share = is_part / np.maximum(is_part.sum(1, keepdims=True), 1)
        parts: Tensor = table[self._on_device(index)] * self._on_device(share.astype(np.float32))[..., None]
        return parts.sum(1)

    def _on_device(self, array: np.ndarray) -> Tensor:
        """Return an array on the device; a GPU fetches it by itself while this thread goes on."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)
