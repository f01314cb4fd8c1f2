"""Incremental learning by time slices: train on a slice, test on the next.

The protocol of ADER (Mi et al. 2020, "ADER: Adaptively Distilled Exemplar Replay", arXiv 2007.12000): every prefix of
every session of the next slice predicts the next item, unseen items are excluded from the test, and all items seen so
far are ranked. Only a bounded memory of earlier slices is kept.

The model is the one that serves, trained in epochs. Its blend is trained on each slice before anything else is; the
latest sessions of the first slice are held out for its first training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from streamrec.evaluation.epochs import Fitting
from streamrec.evaluation.fitted import START_MS, FittedModel, Queries
from streamrec.evaluation.sequences import Sequences, from_groups
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Training
from streamrec.model.tables.popularity import DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalSettings:
    """Settings.

    Parameters
    ----------
    model, training, fitting
        Settings of the parts; `fitting.epochs` is per slice.
    timed
        Whether to use event times, if the file has them.
    first_epochs
        Epochs on the first slice.
    memory
        Maximum number of sessions kept for replay, a uniform sample of all so far.
    replay
        Replayed sessions per session of the slice in each epoch.
    held_back
        Share of the first slice, its latest sessions, held out for the blend.
    taught
        Maximum number of prefixes of a slice to train the blend on.
    lessons
        Number of passes of the blend over them.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: Training = field(default_factory=Training)
    fitting: Fitting = field(default_factory=Fitting)
    timed: bool = True
    first_epochs: int = 12
    memory: int = 30_000
    replay: float = 1.0
    held_back: float = 0.15
    taught: int = 20_000
    lessons: int = 3


@dataclass(frozen=True, slots=True)
class SliceRanks:
    """Ranks of the next items in a slice, from 0.

    Attributes
    ----------
    listed, model_alone
        In the lists that are served, and by the sequence model alone.
    sessions
        Session of each.
    unseen
        Number of events on unseen items, which are not tested.
    items
        Number of ranked items.
    """

    listed: np.ndarray
    model_alone: np.ndarray
    sessions: np.ndarray
    unseen: int
    items: int


class Incremental:
    """Plays slices of sessions.

    Parameters
    ----------
    slices
        Sessions by slice, in chronological order; items are numbers.
    """

    def __init__(self, slices: list[Sequences], settings: IncrementalSettings, *, seed: int) -> None:
        self.slices, self.settings = slices, settings
        self.rng = np.random.default_rng(seed)
        self.model = FittedModel(settings.model, settings.training, settings.fitting, hide_seen=False, seed=seed)
        self._memory = slices[0].take(np.zeros(0, np.int64))
        self._chances = np.zeros(0)

    def play(self, *, on_step: Callable[[float], None]) -> Iterator[SliceRanks]:
        """Train on each slice but the last, and yield the test on the next.

        Parameters
        ----------
        on_step
            Called with the completed share of a slice's training.
        """
        for time_slice, sessions in enumerate(self.slices[:-1]):
            times_ms = _times_ms(time_slice, len(sessions))
            if time_slice == 0:
                early, late = np.split(np.arange(len(sessions)), [round((1 - self.settings.held_back) * len(sessions))])
                self._learn(sessions.take(early), times_ms[early], self.settings.first_epochs, on_step)
                self._teach_blend(sessions.take(late), times_ms[late])
                self.model.count(sessions.take(late), times_ms[late])
                self._fit(sessions, self.settings.fitting.epochs, on_step)
            else:
                self._teach_blend(sessions, times_ms)
                self._learn(sessions, times_ms, self.settings.fitting.epochs, on_step)
            following = self.slices[time_slice + 1]
            yield self._test(following, _times_ms(time_slice + 1, len(following)))
            self._keep(sessions)

    def _learn(self, sessions: Sequences, times_ms: np.ndarray, epochs: int, on_step: Callable[[float], None]) -> None:
        self.model.count(sessions, times_ms)
        self._fit(sessions, epochs, on_step)

    def _fit(self, sessions: Sequences, epochs: int, on_step: Callable[[float], None]) -> None:
        replayed = min(round(self.settings.replay * len(sessions)), len(self._memory))

        def epoch() -> Sequences:
            if not replayed:
                return sessions
            return sessions.joined(self._memory.take(self.rng.choice(len(self._memory), replayed, replace=False)))

        self.model.fit(epoch, epochs=epochs, on_step=on_step)
        self.model.publish()

    def _teach_blend(self, sessions: Sequences, times_ms: np.ndarray) -> None:
        asked, _ = self._ask(self._known(sessions), times_ms, at_most=self.settings.taught)
        for _ in range(self.settings.lessons):
            self.model.teach_blend(asked)

    def _test(self, sessions: Sequences, times_ms: np.ndarray) -> SliceRanks:
        known = self._known(sessions)
        asked, owners = self._ask(known, times_ms)
        ranks = self.model.ranks(asked)
        return SliceRanks(
            listed=ranks.listed,
            model_alone=ranks.model_alone,
            sessions=owners,
            unseen=len(sessions.rows) - len(known.rows),
            items=self.model.items,
        )

    def _ask(self, sessions: Sequences, times_ms: np.ndarray, at_most: int | None = None) -> tuple[Queries, np.ndarray]:
        """Return queries for all events with a prefix, or a sample of them, and the session of each."""
        owner = sessions.sequence_of_event()
        place = np.arange(len(owner)) - sessions.starts[owner]
        at = np.flatnonzero(place > 0)
        if at_most is not None and len(at) > at_most:
            at = np.sort(self.rng.choice(at, at_most, replace=False))
        begin = np.maximum(sessions.starts[owner[at]], at - self.settings.model.max_length)
        return Queries(sessions.windows(begin, at), times_ms[owner[at]], sessions.rows[at]), owner[at]

    def _known(self, sessions: Sequences) -> Sequences:
        """Return sessions without events on items never seen before."""
        keep = self.model.knows(sessions.rows)
        lengths = np.bincount(sessions.sequence_of_event()[keep], minlength=len(sessions))
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return Sequences(sessions.rows[keep], starts, sessions.times_s[keep])

    def _keep(self, sessions: Sequences) -> None:
        """Keep a uniform sample of all sessions so far: those with the highest random numbers."""
        memory = self._memory.joined(sessions)
        chances = np.concatenate([self._chances, self.rng.random(len(sessions))])
        chosen = np.sort(np.argsort(-chances)[: self.settings.memory])
        self._memory, self._chances = memory.take(chosen), chances[chosen]


def _times_ms(time_slice: int, sessions: int) -> np.ndarray:
    """Return a time for each session of a slice: their order is known, and a slice counts as a day."""
    shares = np.arange(sessions) / max(sessions, 1)
    return START_MS + (DAY_MS * (time_slice + shares)).astype(np.int64)


def slices_of(groups: np.ndarray, rows: np.ndarray, periods: np.ndarray, times_s: np.ndarray | None) -> list[Sequences]:
    """Return the sessions of each period, ordered by their last events.

    Parameters
    ----------
    groups, rows, periods, times_s
        Session, row, slice and time of each event, in chronological order, `(E,)`.
    """
    slices = []
    for period in np.unique(periods):
        at = np.flatnonzero(periods == period)
        sessions, _ = from_groups(groups[at], rows[at], None if times_s is None else times_s[at])
        last = np.argsort(groups[at], kind="stable")[sessions.starts[1:] - 1]
        slices.append(sessions.take(np.argsort(last)))
    return slices
