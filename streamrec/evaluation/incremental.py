"""Incremental learning by time slices: train on a slice, test on the next.

The protocol of ADER (Mi et al. 2020, "ADER: Adaptively Distilled Exemplar Replay", arXiv 2007.12000): every prefix of
every session of the next slice predicts the next item, unseen items are excluded from the test, and all items seen so
far are ranked. Only a bounded memory of earlier slices is kept.

The blend is trained on each slice before anything else is; the latest sessions of the first slice are held out for its
first training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from streamrec.evaluation.blended import BlendedRanking, Knowledge, Questions
from streamrec.evaluation.epochs import Fitter, Fitting
from streamrec.evaluation.sequences import Sequences, from_groups
from streamrec.evaluation.session_neighbours import Neighbourhood, SessionNeighbours
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalSettings:
    """Settings.

    Parameters
    ----------
    model, training, fitting, neighbourhood
        Settings of the parts; `fitting.epochs` is per slice.
    first_epochs
        Epochs on the first slice.
    memory
        Maximum number of sessions kept for replay, a uniform sample of all so far.
    replay
        Replayed sessions per session of the slice in each epoch.
    held_back
        Share of the first slice, its latest sessions, held out for the blend.
    lesson
        Number of prefixes of a slice to train the blend on.
    lessons
        Number of passes over them.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: Training = field(default_factory=Training)
    fitting: Fitting = field(default_factory=Fitting)
    neighbourhood: Neighbourhood = field(default_factory=Neighbourhood)
    first_epochs: int = 12
    memory: int = 30_000
    replay: float = 1.0
    held_back: float = 0.15
    lesson: int = 20_000
    lessons: int = 3


@dataclass(frozen=True, slots=True)
class SliceRanks:
    """Ranks of the next items in a slice, from 0.

    Attributes
    ----------
    blended, model_alone
        With the blend, and by the sequence model alone.
    sessions
        Session of each.
    unseen
        Number of events on unseen items, which are not tested.
    items
        Number of ranked items.
    """

    blended: np.ndarray
    model_alone: np.ndarray
    sessions: np.ndarray
    unseen: int
    items: int


class Incremental:
    """Plays slices of sessions.

    Parameters
    ----------
    slices
        Sessions by slice, in chronological order; rows from 1 in the order of their first event.
    """

    def __init__(self, slices: list[Sequences], settings: IncrementalSettings, *, seed: int) -> None:
        self.slices, self.settings, self.seed = slices, settings, seed
        self.rng = np.random.default_rng(seed)
        self.fitter = Fitter(settings.model, settings.training, settings.fitting, items=1, seed=seed)
        self.neighbours = SessionNeighbours(settings.neighbourhood)
        self.blend = BlendedRanking(seed=seed)
        self.counts_now = self.counts_ever = np.zeros(1, np.float32)
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
            if time_slice == 0:
                held = int(self.settings.held_back * len(sessions))
                self._learn(sessions.take(np.arange(len(sessions) - held)), 0, self.settings.first_epochs, on_step)
                self._teach_blend(sessions.take(np.arange(len(sessions) - held, len(sessions))))
                self._forget_counts()
                self._learn(sessions, 0, self.settings.fitting.epochs, on_step)
            else:
                self._teach_blend(sessions)
                self._learn(sessions, time_slice, self.settings.fitting.epochs, on_step)
            yield self._test(self.slices[time_slice + 1])
            self._keep(sessions)

    def _learn(self, sessions: Sequences, time_slice: int, epochs: int, on_step: Callable[[float], None]) -> None:
        self.fitter.grow(max(self.fitter.items, int(sessions.rows.max(initial=0)) + 1))
        self.neighbours.add(sessions, time_slice)
        self.counts_now = np.bincount(sessions.rows, minlength=self.fitter.items).astype(np.float32)
        ever = np.zeros_like(self.counts_now)
        ever[: len(self.counts_ever)] = self.counts_ever
        self.counts_ever = ever + self.counts_now
        replayed = min(round(self.settings.replay * len(sessions)), len(self._memory))

        def epoch() -> Sequences:
            if not replayed:
                return sessions
            return sessions.joined(self._memory.take(self.rng.choice(len(self._memory), replayed, replace=False)))

        self.fitter.fit(epoch, epochs=epochs, on_step=on_step)

    def _forget_counts(self) -> None:
        """Count the whole first slice again."""
        self.neighbours = SessionNeighbours(self.settings.neighbourhood)
        self.counts_ever = np.zeros(1, np.float32)

    def _teach_blend(self, sessions: Sequences) -> None:
        questions, _ = self._ask(known_items(sessions, self.fitter.items), at_most=self.settings.lesson)
        self.blend.learn(self._knowledge(), questions, epochs=self.settings.lessons)

    def _test(self, sessions: Sequences) -> SliceRanks:
        known = known_items(sessions, self.fitter.items)
        questions, asked = self._ask(known)
        ranks = self.blend.ranks(self._knowledge(), questions)
        return SliceRanks(
            blended=ranks.blended,
            model_alone=ranks.model_alone,
            sessions=asked,
            unseen=len(sessions.rows) - len(known.rows),
            items=self.fitter.items - 1,
        )

    def _ask(self, sessions: Sequences, at_most: int | None = None) -> tuple[Questions, np.ndarray]:
        """Return queries for all events with a prefix, or a sample of them, and the session of each."""
        owner = sessions.sequence_of_event()
        place = np.arange(len(owner)) - sessions.starts[owner]
        at = np.flatnonzero(place > 0)
        if at_most is not None and len(at) > at_most:
            at = np.sort(self.rng.choice(at, at_most, replace=False))
        begin = np.maximum(sessions.starts[owner[at]], at - self.settings.model.max_length)
        prefixes = sessions.windows(begin, at)
        return Questions(prefixes, self._hidden(sessions, at, begin), sessions.rows[at], None), owner[at]

    def _hidden(self, sessions: Sequences, at: np.ndarray, begin: np.ndarray) -> np.ndarray:
        """Return the model's predictions at these events, from a single pass over sessions that are short enough."""
        owner = sessions.sequence_of_event()[at]
        length = self.settings.model.max_length
        first = sessions.windows(sessions.starts[:-1], np.minimum(sessions.starts[:-1] + length, sessions.starts[1:]))
        hidden = np.zeros((len(at), self.settings.model.dim), np.float32)
        short = begin == sessions.starts[owner]
        place = at - sessions.starts[owner]
        hidden[short] = self.fitter.encode(first)[first.starts[owner[short]] + place[short] - 1]
        if not short.all():
            long = sessions.windows(begin[~short], at[~short])
            hidden[~short] = self.fitter.encode(long)[long.starts[1:] - 1]
        return hidden

    def _knowledge(self) -> Knowledge:
        return Knowledge(
            self.fitter.vectors(), self.fitter.temperature, self.neighbours, self.counts_now, self.counts_ever
        )

    def _keep(self, sessions: Sequences) -> None:
        """Keep a uniform sample of all sessions so far: those with the highest random numbers."""
        memory = self._memory.joined(sessions)
        chances = np.concatenate([self._chances, self.rng.random(len(sessions))])
        chosen = np.sort(np.argsort(-chances)[: self.settings.memory])
        self._memory, self._chances = memory.take(chosen), chances[chosen]


def known_items(sessions: Sequences, items: int) -> Sequences:
    """Return sessions without events on rows of `items` and above."""
    keep = sessions.rows < items
    lengths = np.bincount(sessions.sequence_of_event()[keep], minlength=len(sessions))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(sessions.rows[keep], starts, sessions.times_s[keep])


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
