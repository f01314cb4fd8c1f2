"""Training in epochs over a data set, with the streaming learner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from streamrec.evaluation.sequences import Sequences, batches, newest, pieces
from streamrec.model.network.learner import RECENT_EVENTS, Learner
from streamrec.model.network.weights import load_weights, weights_of
from streamrec.model.tensors import Arrays, below, prefixed
from streamrec.model.threads import limit_threads


def use_threads(threads: int) -> None:
    """Set the number of CPU threads of this process."""
    torch.set_num_threads(threads)
    limit_threads(threads)


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
    max_length
        Longest sequence.
    """

    def __init__(self, learner: Learner, fitting: Fitting, *, max_length: int, seed: int) -> None:
        self.learner, self.fitting, self.max_length = learner, fitting, max_length
        self.rng = np.random.default_rng(seed)

    def fit(
        self,
        sequences: Callable[[], Sequences],
        *,
        items: int,
        epochs: int,
        after_epoch: Callable[[int], bool] = lambda _epoch: True,
        on_step: Callable[[float], None] = lambda _share: None,
    ) -> None:
        """Train for a number of epochs.

        Parameters
        ----------
        sequences
            Returns the sequences of an epoch; called for each.
        items
            Number of rows in use, including padding.
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
                self.learner.train(cut.padded(chosen), items)
                on_step(done)
            if not after_epoch(epoch + 1):
                break

    def weights(self, items: int) -> Arrays:
        """Return a copy of the ranking weights of this many rows: embeddings and averaged network."""
        rows = self.learner.items.weight[:items].cpu().numpy().copy()
        return {"rows": rows, **prefixed("average", weights_of(self.learner.average))}

    def load(self, weights: Arrays) -> None:
        """Restore what :meth:`weights` returned; the optimizer state is kept."""
        self.learner.items.weight[: len(weights["rows"])] = torch.from_numpy(weights["rows"])
        load_weights(self.learner.average, below("average", weights))

    def _cut(self, sequences: Sequences) -> Sequences:
        if self.fitting.whole:
            return pieces(sequences, self.max_length, self.rng)
        return newest(sequences, self.max_length)

    def _rate(self, done: float) -> float:
        warm_up, cool_down = self.fitting.warm_up, self.fitting.cool_down
        rate = min(1.0, (done + 1e-3) / warm_up) if warm_up else 1.0
        return min(rate, (1.0 - done) / cool_down + 1e-3) if cool_down else rate
