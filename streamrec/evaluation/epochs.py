"""Training in epochs over a data set, with the streaming learner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from streamrec.evaluation.sequences import Sequences, batches, newest, pieces
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import RECENT_EVENTS, Learner, Training
from streamrec.model.network.weights import load_weights, weights_of
from streamrec.model.tensors import Arrays, below, prefixed


def use_threads(threads: int) -> None:
    """Set the number of CPU threads of this process."""
    torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """Settings of training.

    Parameters
    ----------
    epochs
        Passes over the sequences.
    batch_events
        Events per step.
    whole
        Whether long sequences are split and used completely, or truncated to their latest events.
    warm_up, cool_down
        Shares of the steps with linearly increasing and decreasing learning rate.
    """

    epochs: int = 20
    batch_events: int = 512
    whole: bool = False
    warm_up: float = 0.05
    cool_down: float = 0.5


class Fitter:
    """Trains a learner on sequences.

    Parameters
    ----------
    items
        Number of rows of the table, including padding.
    """

    def __init__(self, config: ModelConfig, training: Training, fitting: Fitting, *, items: int, seed: int) -> None:
        self.config, self.fitting = config, fitting
        self.learner = Learner(config, device=torch.device("cpu"), seed=seed, training=training)
        self.rng = np.random.default_rng(seed)
        self.items = 1
        self.grow(items)

    def grow(self, items: int) -> None:
        """Initialize new rows randomly."""
        self.learner.items.reserve(items)
        generator = torch.Generator().manual_seed(int(self.rng.integers(1 << 40)))
        self.learner.items.reset(torch.arange(self.items, items), generator)
        if len(self.learner.buckets) < items:
            self.learner.buckets = np.zeros((items, self.learner.buckets.shape[1]), np.int64)
        self.items = items

    def fit(
        self,
        sequences: Callable[[], Sequences],
        *,
        epochs: int,
        after_epoch: Callable[[int], bool] = lambda _epoch: True,
        on_step: Callable[[float], None] = lambda _share: None,
    ) -> None:
        """Train for a number of epochs.

        Parameters
        ----------
        sequences
            Returns the sequences of an epoch; called for each.
        after_epoch
            Called with the number of completed epochs; training stops if it returns false.
        on_step
            Called with the completed share of the epochs.
        """
        for epoch in range(epochs):
            cut = self._cut(sequences())
            self.learner.recent.extend(self.rng.choice(cut.rows, RECENT_EVENTS).tolist())
            parts = list(batches(cut.lengths, self.fitting.batch_events, self.rng))
            for step, chosen in enumerate(parts):
                done = (epoch + step / len(parts)) / epochs
                self.learner.set_rates(self._rate(done))
                self.learner.train(cut.padded(chosen), self.items)
                on_step(done)
            if not after_epoch(epoch + 1):
                break

    def encode(self, sequences: Sequences, batch_events: int = 20_000) -> np.ndarray:
        """Return what follows each event of sequences not longer than the model's, `(E, D)`, unit vectors."""
        out = np.zeros((len(sequences.rows), self.config.dim), np.float32)
        model = self.learner.average.eval()
        vectors = torch.from_numpy(self.vectors())
        rng = np.random.default_rng(0)  # the order of batches does not matter
        with torch.inference_mode():
            for chosen in batches(sequences.lengths, batch_events, rng):
                padded = sequences.padded(chosen)
                hidden = model(
                    functional.embedding(torch.from_numpy(padded.rows), vectors),
                    torch.from_numpy(padded.event_types),
                    torch.from_numpy(padded.times_s),
                )
                is_event = padded.rows > 0
                at = sequences.starts[chosen][:, None] + np.arange(padded.rows.shape[1])
                out[at[is_event]] = hidden.numpy()[is_event]
        return out

    def vectors(self) -> np.ndarray:
        """Return the unit vectors of all rows, zero for padding, `(items, D)`."""
        vectors = self.learner.vectors(np.arange(self.items))
        vectors[0] = 0.0
        return vectors

    def weights(self) -> Arrays:
        """Return a copy of the ranking weights: rows and averaged network."""
        rows = self.learner.items.weight[: self.items].cpu().numpy().copy()
        return {"rows": rows, **prefixed("average", weights_of(self.learner.average))}

    def load(self, weights: Arrays) -> None:
        """Restore what :meth:`weights` returned; the optimizer state is kept."""
        self.learner.items.weight[: self.items] = torch.from_numpy(weights["rows"])
        load_weights(self.learner.average, below("average", weights))

    @property
    def temperature(self) -> float:
        """Return the temperature of the loss."""
        return float(self.learner.average.log_temperature.exp())

    def _cut(self, sequences: Sequences) -> Sequences:
        if self.fitting.whole:
            return pieces(sequences, self.config.max_length, self.rng)
        return newest(sequences, self.config.max_length)

    def _rate(self, done: float) -> float:
        warm_up, cool_down = self.fitting.warm_up, self.fitting.cool_down
        rate = min(1.0, (done + 1e-3) / warm_up) if warm_up else 1.0
        return min(rate, (1.0 - done) / cool_down + 1e-3) if cool_down else rate
