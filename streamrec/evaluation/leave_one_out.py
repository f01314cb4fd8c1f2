"""Leave-one-out: each user's last item is the test, the second last the validation, all items are ranked.

Seen items are excluded; a repeated test item is a miss, and the share of such users is reported. Training and the
neighbour memory exclude both items. The number of epochs and the blend are determined by the validation items. In the
test these end the histories of their own users and are unknown to all others, as in the published results. Nothing is
trained on the test items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from streamrec.evaluation.blended import BlendedRanking, Knowledge, Questions
from streamrec.evaluation.epochs import Fitter, Fitting
from streamrec.evaluation.metrics import ndcg
from streamrec.evaluation.sequences import Sequences
from streamrec.evaluation.session_neighbours import Neighbourhood, SessionNeighbours
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOneOutSettings:
    """Settings.

    Parameters
    ----------
    model, training, fitting, neighbourhood
        Settings of the parts.
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
    neighbourhood: Neighbourhood = field(default_factory=Neighbourhood)
    validate_every: int = 4
    patience: int = 3
    lessons: int = 5


@dataclass(frozen=True, slots=True)
class LeaveOneOutRanks:
    """Ranks of the test items, from 0, one per user with three events.

    Attributes
    ----------
    blended, model_alone
        With the blend, and by the sequence model alone.
    epochs
        Epoch with the best validation score.
    repeated
        Users whose test item they had seen before.
    """

    blended: np.ndarray
    model_alone: np.ndarray
    epochs: int
    repeated: int


class LeaveOneOut:
    """Trains on sequences and ranks their last items.

    Parameters
    ----------
    sequences
        All events by user, rows from 1.
    items
        Number of rows, including padding.
    """

    def __init__(self, sequences: Sequences, items: int, settings: LeaveOneOutSettings, *, seed: int) -> None:
        self.settings, self.seed = settings, seed
        long_enough = sequences.lengths >= 3
        self.users = sequences.take(np.flatnonzero(long_enough))
        self.short = sequences.take(np.flatnonzero(~long_enough))
        self.past = self.users.without_last(2).joined(self.short)
        self.fitter = Fitter(settings.model, settings.training, settings.fitting, items=items, seed=seed)

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
        weights = self.fitter.weights()

        def validate(epoch: int) -> bool:
            nonlocal best, waited, weights
            if epoch % self.settings.validate_every and epoch != self.settings.fitting.epochs:
                return True
            ranks = self._ask(1).model_ranks(self.fitter.vectors())
            quality = float(ndcg(ranks).mean())
            report(f"epoch {epoch}: validation HR@10 {(ranks < 10).mean():.4f}, NDCG@10 {quality:.4f}")
            waited += 1
            if quality > best[0]:
                best, waited, weights = (quality, epoch), 0, self.fitter.weights()
            return waited < self.settings.patience

        self.fitter.fit(lambda: self.past, epochs=self.settings.fitting.epochs, after_epoch=validate, on_step=on_step)
        self.fitter.load(weights)
        return self._test(best[1], report)

    def _test(self, epochs: int, report: Callable[[str], None]) -> LeaveOneOutRanks:
        blend = BlendedRanking(seed=self.seed)
        known = self._knowledge()
        loss = blend.learn(known, self._ask(1), epochs=self.settings.lessons)
        report(f"blend: loss {loss:.4f} on the validation items")
        questions = self._ask(0)
        seen = self.users.without_last(1)
        repeats = seen.rows == np.repeat(questions.targets, seen.lengths)
        ranks = blend.ranks(known, questions)
        return LeaveOneOutRanks(
            blended=ranks.blended,
            model_alone=ranks.model_alone,
            epochs=epochs,
            repeated=len(np.unique(seen.sequence_of_event()[repeats])),
        )

    def _ask(self, later: int) -> Questions:
        """Return queries for the event followed by this many others."""
        known = self.users.without_last(later + 1)
        begin = np.maximum(known.starts[:-1], known.starts[1:] - self.settings.model.max_length)
        prefixes = known.windows(begin, known.starts[1:])
        hidden = self.fitter.encode(prefixes)[prefixes.starts[1:] - 1]
        return Questions(prefixes, hidden, self.users.rows[self.users.starts[1:] - 1 - later], known)

    def _knowledge(self) -> Knowledge:
        """Return the histories without validation and test items."""
        neighbours = SessionNeighbours(self.settings.neighbourhood)
        neighbours.add(self.past, 0)
        counts = np.bincount(self.past.rows, minlength=self.fitter.items).astype(np.float32)
        return Knowledge(self.fitter.vectors(), self.fitter.temperature, neighbours, counts, counts)
