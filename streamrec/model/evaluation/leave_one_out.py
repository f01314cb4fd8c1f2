"""Leave-one-out: each user's last item is the test, the second last the validation, all items are ranked.

Items that a user has seen are not listed; one that is seen again is a miss, and the share of such users is reported.
Training and the memory of neighbours see neither of the two items. The number of epochs and the blend come from the
validation items. At the test these end the pasts of their own users, and nobody else knows of them: so it is in the
published tables. Nothing learns from the test items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from streamrec.model.evaluation.blended import BlendedRanking, Knowledge, Questions
from streamrec.model.evaluation.metrics import ndcg
from streamrec.model.evaluation.sequences import Sequences
from streamrec.model.evaluation.session_neighbours import Neighbourhood, SessionNeighbours
from streamrec.model.evaluation.training import Fitter, Fitting
from streamrec.model.learner import Training
from streamrec.model.sequence_model import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOneOutSettings:
    """All that may be set.

    Parameters
    ----------
    model, training, fitting, neighbourhood
        Each has its own settings.
    validate_every
        Epochs from one look at the validation items to the next.
    patience
        Looks without a better NDCG@10 after which training ends.
    lessons
        Passes of the blend over the validation items.
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
    """Places of the test items, 0 the first, one of each user that has three events.

    Attributes
    ----------
    blended, model_alone
        With the blend, and by the sequence model alone.
    epochs
        After which the model was best on validation.
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
        Of each user all events, rows from 1.
    items
        Rows, the padding row included.
    """

    def __init__(self, sequences: Sequences, items: int, settings: LeaveOneOutSettings, *, seed: int) -> None:
        self.settings, self.seed = settings, seed
        long_enough = sequences.lengths >= 3
        self.users = sequences.take(np.flatnonzero(long_enough))
        self.short = sequences.take(np.flatnonzero(~long_enough))
        self.past = self.users.without_last(2).joined(self.short)
        self.fitter = Fitter(settings.model, settings.training, settings.fitting, items=items, seed=seed)

    def run(self, *, report: Callable[[str], None], on_step: Callable[[float], None]) -> LeaveOneOutRanks:
        """Train, choose by validation, then rank the test items once.

        Parameters
        ----------
        report
            Told how each validation went.
        on_step
            Told the share of the training that is done.
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
        """Ask for the event that only so many come after."""
        known = self.users.without_last(later + 1)
        begin = np.maximum(known.starts[:-1], known.starts[1:] - self.settings.model.max_length)
        prefixes = known.windows(begin, known.starts[1:])
        hidden = self.fitter.encode(prefixes)[prefixes.starts[1:] - 1]
        return Questions(prefixes, hidden, self.users.rows[self.users.starts[1:] - 1 - later], known)

    def _knowledge(self) -> Knowledge:
        """Return what is known of the past without validation and test items."""
        neighbours = SessionNeighbours(self.settings.neighbourhood)
        neighbours.add(self.past, 0)
        counts = np.bincount(self.past.rows, minlength=self.fitter.items).astype(np.float32)
        return Knowledge(self.fitter.vectors(), self.fitter.temperature, neighbours, counts, counts)
