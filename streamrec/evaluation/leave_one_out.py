"""Leave-one-out: each user's last item is the test, the second last the validation, all items are ranked.

The model is the one that serves, trained in epochs. Seen items are excluded; a repeated test item is a miss, and the
number of such users is reported. Training and channels exclude both items. The number of epochs and the blend are
determined by the validation items. In the test these end the histories of their own users and are unknown to all
others, as in the published results. Nothing is trained on the test items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from streamrec.evaluation.epochs import Fitting
from streamrec.evaluation.fitted import START_MS, FittedModel, Queries
from streamrec.evaluation.metrics import CUTOFF, ndcg
from streamrec.evaluation.sequences import Sequences
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOneOutSettings:
    """Settings.

    Parameters
    ----------
    model, training, fitting
        Settings of the parts.
    timed
        Whether to use event times, if the file has them.
    validate_every
        Epochs between two validations.
    patience
        Validations without a better NDCG@10 before training stops.
    lessons
        Number of passes of the blend over the validation items.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: Training = field(default_factory=Training)
    fitting: Fitting = field(default_factory=Fitting)
    timed: bool = True
    validate_every: int = 4
    patience: int = 3
    lessons: int = 5


@dataclass(frozen=True, slots=True)
class LeaveOneOutRanks:
    """Ranks of the test items, from 0, one per user with three events.

    Attributes
    ----------
    listed, model_alone
        In the lists that are served, and by the sequence model alone.
    epochs
        Epoch with the best validation score.
    repeated
        Users whose test item they had seen before.
    """

    listed: np.ndarray
    model_alone: np.ndarray
    epochs: int
    repeated: int


class LeaveOneOut:
    """Trains on sequences and ranks their last items.

    Parameters
    ----------
    sequences
        All events by user; items are numbers.
    """

    def __init__(self, sequences: Sequences, settings: LeaveOneOutSettings, *, seed: int) -> None:
        self.settings = settings
        long_enough = sequences.lengths >= 3
        self.users = sequences.take(np.flatnonzero(long_enough))
        self.short = sequences.take(np.flatnonzero(~long_enough))
        self.past = self.users.without_last(2).joined(self.short)
        self.model = FittedModel(settings.model, settings.training, settings.fitting, hide_seen=True, seed=seed)
        self.model.count(self.past, np.full(len(self.past), START_MS))

    def run(self, *, report: Callable[[str], None], on_step: Callable[[float], None]) -> LeaveOneOutRanks:
        """Train, select by validation, then rank the test items once.

        Parameters
        ----------
        report
            Called with the result of each validation.
        on_step
            Called with the completed share of training.
        """
        best, waited = (-1.0, 0), 0
        fitter, rows = self.model.fitter, self.model.items + 1
        weights = fitter.weights(rows)

        def validate(epoch: int) -> bool:
            nonlocal best, waited, weights
            if epoch % self.settings.validate_every and epoch != self.settings.fitting.epochs:
                return True
            self.model.publish()
            ranks = self.model.ranks(self._ask(1)).model_alone
            quality = float(ndcg(ranks).mean())
            report(f"epoch {epoch}: validation HR@10 {(ranks < CUTOFF).mean():.4f}, NDCG@10 {quality:.4f}")
            waited += 1
            if quality > best[0]:
                best, waited, weights = (quality, epoch), 0, fitter.weights(rows)
            return waited < self.settings.patience

        self.model.fit(lambda: self.past, epochs=self.settings.fitting.epochs, after_epoch=validate, on_step=on_step)
        fitter.load(weights)
        self.model.publish()
        for _ in range(self.settings.lessons):
            self.model.teach_blend(self._ask(1))
        report(f"blend: loss {self.model.stacking.recent_loss:.4f} on the validation items")
        self.model.publish()
        asked = self._ask(0)
        seen = self.users.without_last(1)
        repeats = seen.rows == np.repeat(asked.targets, seen.lengths)
        ranks = self.model.ranks(asked)
        return LeaveOneOutRanks(
            listed=ranks.listed,
            model_alone=ranks.model_alone,
            epochs=best[1],
            repeated=len(np.unique(seen.sequence_of_event()[repeats])),
        )

    def _ask(self, later: int) -> Queries:
        """Return queries for the event followed by this many others."""
        known = self.users.without_last(later + 1)
        begin = np.maximum(known.starts[:-1], known.starts[1:] - self.settings.model.max_length)
        prefixes = known.windows(begin, known.starts[1:])
        targets = self.users.rows[self.users.starts[1:] - 1 - later]
        return Queries(prefixes, np.full(len(targets), START_MS), targets, known)
