"""The model that serves, fitted to a data set of sequences instead of a stream: several epochs, and versions at will.

Counts, channels, features, blend and versions are those of `OnlineModel` and `ServingModel`; only order and number of
the gradient steps are a protocol's own.

Shapes: B queries, E events, W rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from streamrec.domain.interest import SequenceEvent
from streamrec.evaluation.epochs import Fitter, Fitting
from streamrec.evaluation.metrics import NOT_LISTED
from streamrec.evaluation.sequences import Sequences
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Training
from streamrec.model.network.micro_batch import UserHistory
from streamrec.model.ranking.candidates import encode, find
from streamrec.model.ranking.context import Context
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.tables.catalogue import Catalogue
from streamrec.model.tables.context_counts import padded
from streamrec.model.training.online_model import TESTED_TOGETHER, OnlineModel
from streamrec.model.training.rules import Rules
from streamrec.model.training.stacking import Stacking

START_MS = 1_600_000_000_000
"""Time of the first sequence: any, since only differences count."""

COUNTED_TOGETHER, ASKED_TOGETHER = 64, 256
"""Sequences per micro-batch, and queries per batch."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Sequences whose next item is asked for.

    Attributes
    ----------
    prefixes
        Sequences not longer than the model's.
    times_ms
        Time of the first event of each, `(B,)`.
    targets
        The next items, `(B,)`.
    seen
        All items that each user has seen; `None` for those of the prefix.
    """

    prefixes: Sequences
    times_ms: np.ndarray
    targets: np.ndarray
    seen: Sequences | None = None

    def parts(self, size: int) -> Iterator[Queries]:
        """Yield this many at a time."""
        for start in range(0, len(self.targets), size):
            chosen = np.arange(start, min(start + size, len(self.targets)))
            seen = None if self.seen is None else self.seen.take(chosen)
            yield Queries(self.prefixes.take(chosen), self.times_ms[chosen], self.targets[chosen], seen)


class Ranks(NamedTuple):
    """Ranks of the targets of queries, from 0, `(B,)`.

    Attributes
    ----------
    listed
        In the lists that are served; `NOT_LISTED` for an item that is no candidate.
    model_alone
        By the sequence model alone, among all items; `NOT_LISTED` for an item that it does not know or that is hidden.
    """

    listed: np.ndarray
    model_alone: np.ndarray


class FittedModel:
    """Learns sequences and ranks next items.

    Parameters
    ----------
    config, training, fitting
        Shape of the network, and how it is trained.
    hide_seen
        Whether seen items are excluded.
    seed
        Random seed.
    """

    def __init__(
        self, config: ModelConfig, training: Training, fitting: Fitting, *, hide_seen: bool, seed: int
    ) -> None:
        rules = Rules(hide_seen=hide_seen, seed=seed)
        self.model = OnlineModel(config, rules, device=torch.device("cpu"), catalogue=Catalogue(), training=training)
        self.fitter = Fitter(self.model.learner, fitting, max_length=config.max_length, seed=seed)
        self._hide_seen = hide_seen
        self._sequences = self._versions = 0

    @property
    def items(self) -> int:
        """Number of items seen so far."""
        return len(self.model.items) - 1

    @property
    def serving(self) -> ServingModel:
        """The latest version."""
        return self.model.releases.serving

    @property
    def stacking(self) -> Stacking:
        """What trains the blend."""
        return self.model.stacking

    def knows(self, rows: np.ndarray) -> np.ndarray:
        """Return whether each item was seen."""
        return _rows_of(rows, self.model.items.vocabulary.row) > 0

    def count(self, sequences: Sequences, times_ms: np.ndarray) -> None:
        """Count all events: popularity, and what the channels learn.

        Parameters
        ----------
        times_ms
            Time of the first event of each sequence, ascending.
        """
        histories = []
        for sequence, begin_ms in enumerate(times_ms.tolist()):
            its = slice(sequences.starts[sequence], sequences.starts[sequence + 1])
            after_ms = (1_000.0 * sequences.times_s[its]).astype(np.int64).tolist()
            events = [
                SequenceEvent(begin_ms + after, 0, 0, offset, str(row), "")
                for offset, (row, after) in enumerate(zip(sequences.rows[its].tolist(), after_ms, strict=True))
            ]
            histories.append(UserHistory(f"s{self._sequences + sequence}", events, list(range(len(events)))))
        self._sequences += len(sequences)
        for start in range(0, len(histories), COUNTED_TOGETHER):
            self.model.count(histories[start : start + COUNTED_TOGETHER])

    def fit(
        self,
        sequences: Callable[[], Sequences],
        *,
        epochs: int,
        after_epoch: Callable[[int], bool] = lambda _epoch: True,
        on_step: Callable[[float], None] = lambda _share: None,
    ) -> None:
        """Train the sequence model; see :meth:`~streamrec.evaluation.epochs.Fitter.fit`."""
        self.fitter.fit(
            lambda: self._translated(sequences()),
            items=len(self.model.items),
            epochs=epochs,
            after_epoch=after_epoch,
            on_step=on_step,
        )

    def publish(self) -> list[bytes]:
        """Make a version of everything learned, which serves from now on, and return its records."""
        self._versions += 1
        self.model.releases.moved(range(1, len(self.model.items)))
        _, records = self.model.releases.make(str(self._versions), self.model.learned(0), whole=True)
        return records

    def teach_blend(self, asked: Queries) -> None:
        """Train the blend on the lists of the version that serves."""
        for part in asked.parts(TESTED_TOGETHER):
            contexts = self._contexts(part)
            hidden = encode(self.serving, contexts)
            self.stacking.learn(self.serving, contexts, hidden, self._listable(part.targets).tolist())

    def ranks(self, asked: Queries) -> Ranks:
        """Return the rank of each target."""
        parts = [self._ranks(part) for part in asked.parts(ASKED_TOGETHER)]
        empty = [np.zeros(0, np.int64)] * 2
        return Ranks(*(np.concatenate(each) for each in zip(empty, *parts, strict=True)))

    def _ranks(self, asked: Queries) -> Ranks:
        serving, contexts, targets = self.serving, self._contexts(asked), self._listable(asked.targets)
        hidden = encode(serving, contexts)
        found = find(serving, contexts, hidden)
        candidates, scores = found.candidates, serving.blend.scores(found.features)
        places = candidates.places(targets)
        is_listed = (places >= 0) & (targets > 0)
        own = np.where(is_listed, scores[places], np.inf)
        # ties rank above the target, so that it has no advantage
        better = np.bincount(candidates.users, scores >= own[candidates.users], len(own)).astype(np.int64) - 1
        cosines = hidden @ serving.vectors.take(np.arange(serving.size)).T
        cosines[:, 0] = -np.inf
        for user, context in enumerate(contexts):
            cosines[user, context.left_out] = -np.inf
        of_target = cosines[np.arange(len(targets)), targets]
        is_ranked = np.isfinite(of_target) & hidden.any(axis=1)
        return Ranks(
            np.where(is_listed, better, NOT_LISTED),
            np.where(is_ranked, (cosines >= of_target[:, None]).sum(1) - 1, NOT_LISTED),
        )

    def _contexts(self, asked: Queries) -> list[Context]:
        prefixes = asked.prefixes
        rows, after_ms = self._listable(prefixes.rows), (1_000.0 * prefixes.times_s).astype(np.int64)
        contexts = []
        for query, begin_ms in enumerate(asked.times_ms.tolist()):
            its = slice(prefixes.starts[query], prefixes.starts[query + 1])
            times_ms = begin_ms + after_ms[its]
            seen = self._listable(asked.seen.of(query)) if asked.seen is not None else rows[its]
            contexts.append(
                Context(
                    rows=rows[its],
                    event_types=np.zeros(len(times_ms), np.int64),
                    times_ms=times_ms,
                    categories=np.zeros(len(times_ms), np.int64),
                    now_ms=max(self.serving.newest_event_ms, int(times_ms.max(initial=0))),
                    left_out=seen if self._hide_seen else rows[:0],
                    codes=padded(()),
                )
            )
        return contexts

    def _translated(self, sequences: Sequences) -> Sequences:
        rows = _rows_of(sequences.rows, self.model.items.vocabulary.row)
        return Sequences(rows, sequences.starts, sequences.times_s)

    def _listable(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of items in the version that serves, 0 for items unknown to it."""
        return _rows_of(rows, self.serving.row)


def _rows_of(rows: np.ndarray, row_of: Callable[[str], int]) -> np.ndarray:
    distinct, inverse = np.unique(rows, return_inverse=True)
    return np.array([row_of(str(row)) for row in distinct.tolist()], np.int64)[inverse]
