"""Prequential evaluation (Vinagre et al. 2015, arXiv 1504.08175): recommend, score, then learn, in stream order.

It runs the workers' fold, training step and ranking. A user's list is made for the moment before the user's event, by
the version serving then and with all events so far counted. Lists for a few consecutive events of distinct users are
made together, before the first of them, so they are a few events older than those of baselines that learn from the log
alone, which learn every event immediately. The model learns in micro-batches, which end as in the trainer: when they
are full, or when their first event reaches a certain age, by event time. Until then their events are in the users'
sequences and counts, but not in the model. A training step takes no event time. What a user does not like is learned,
but is no target.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ParamSpec, TypeVar

import torch

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.domain.event import Event
from streamrec.domain.feedback import WEIGHTS, is_interest, signed
from streamrec.domain.interest import FoldRules, InterestState, entry_of
from streamrec.evaluation.baselines.baseline import Baseline
from streamrec.evaluation.baselines.frozen import Frozen
from streamrec.evaluation.baselines.retrained import Retrained
from streamrec.evaluation.list_quality import ListQuality
from streamrec.evaluation.live import LiveTrainer
from streamrec.evaluation.metrics import CUTOFF, LONGER_CUTOFF, NOT_LISTED, Scores
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.threads import limit_threads
from streamrec.model.training.trainer import Trainer

P = ParamSpec("P")
R = TypeVar("R")

LISTS_TOGETHER = 32
"""Number of events whose lists are made together: much cheaper, and lists are at most seconds old on a busy stream."""

LOOKED_AT = 4
"""Lists of one in this many of these groups are looked at as a whole: their channels, distances and calibration."""

RETRAININGS = 3
"""Number of parts of the scored events; the retrained model is trained before each."""


def one_cpu_thread() -> torch.device:
    """Limit this process to one CPU thread, and return the device."""
    limit_threads()
    torch.set_num_threads(1)
    return torch.device("cpu")


class Prequential:
    """Plays a stream through trainer, ranker and baselines in one thread.

    It grows with the users and items of the stream, and with the scores.

    Parameters
    ----------
    trainer, ranker
        The evaluated model.
    baselines
        Methods that learn from the log alone, every event immediately.
    frozen, retrained
        The same model with less training; `None` to omit.
    micro_batch_events, micro_batch_age_ms
        Number of waiting events, and age of the first one, that trigger a training step; the resulting version serves
        immediately.
    rules
        What users' states keep of events.
    """

    def __init__(  # noqa: PLR0913  # compared methods
        self,
        trainer: Trainer,
        ranker: ModelRanker,
        baselines: Sequence[Baseline],
        *,
        frozen: Frozen | None = None,
        retrained: Retrained | None = None,
        micro_batch_events: int,
        micro_batch_age_ms: float,
        rules: FoldRules,
    ) -> None:
        self._live, self._ranker = LiveTrainer(trainer), ranker
        self._baselines = baselines
        self._frozen, self._retrained = frozen, retrained
        self._micro_batch_events, self._micro_batch_age_ms = micro_batch_events, micro_batch_age_ms
        self._rules = rules
        self._rivals = [rival for rival in (frozen, retrained) if rival is not None]
        names = [name for baseline in baselines for name in baseline.names]
        self.scores = Scores(["streamrec", *(rival.name for rival in self._rivals), *names])
        self.events = 0
        self.quality = ListQuality()
        """Of a part of the scored lists."""
        self._groups = 0
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        """CPU time of the thread by activity."""
        self._states: dict[str, InterestState] = {}
        self._interests: dict[str, UserInterest] = {}
        self._user_numbers: dict[str, int] = {}
        self._item_numbers: dict[str, int] = {}
        self._occurrences: list[int] = []
        """Events by item index."""
        self._waiting: list[UserInterest] = []
        self._waiting_since_ms = 0
        """Event time of the first event that waits."""

    @property
    def rollbacks(self) -> int:
        """How often the guard went back to the last good version."""
        return self._live.rollbacks

    def play(self, events: Iterable[Event], *, unscored: int, total: int) -> None:
        """Play events.

        Parameters
        ----------
        unscored
            Number of initial events that are learned without being scored.
        total
            Approximate number of events: determines when a model is retrained.
        """
        anew = {unscored + part * (total - unscored) // RETRAININGS for part in range(RETRAININGS)}
        for together in self._together(events, cuts=anew | {unscored}):
            if self._retrained is not None and self.events in anew:
                self._timed("retrain", self._retrained.retrain)
            if self._waiting and self._is_due(together[0], self._waiting_since_ms):
                self._train(is_scored=self.events > unscored)
            lists = self._timed("rank", self._lists, together) if self.events >= unscored else None
            for place, event in enumerate(together):
                if lists is not None and self._signed_kind(event) >= 0:
                    self._score(event, [lists_of[place] for lists_of in lists])
                self._learn(event, is_scored=lists is not None)

    def _together(self, events: Iterable[Event], cuts: set[int]) -> Iterator[list[Event]]:
        """Split the stream into groups of events of distinct users, aligned with retraining and training steps."""
        part: list[Event] = []
        users: set[str] = set()
        for event in events:
            full = len(part) == min(LISTS_TOGETHER, self._micro_batch_events - len(self._waiting))
            if part and (full or event.user_id in users or self.events + len(part) in cuts or self._ends(part, event)):
                yield part
                part, users = [], set()
            part.append(event)
            users.add(event.user_id)
        if part:
            yield part

    def _ends(self, together: list[Event], event: Event) -> bool:
        """Return whether a training step comes between a group of events and the next event."""
        first = together[0]
        joins = self._waiting and not self._is_due(first, self._waiting_since_ms)
        return self._is_due(event, self._waiting_since_ms if joins else first.event_time_ms)

    def _is_due(self, event: Event, since_ms: int) -> bool:
        """Return whether events that wait since then are learned before this one."""
        return event.event_time_ms - since_ms >= self._micro_batch_age_ms

    def _lists(self, together: list[Event]) -> list[list[list[str]]]:
        """Return the lists of the users of these events, by the model and its variants with less training."""
        interests = [self._interests.get(event.user_id) or _nobody(event.user_id) for event in together]
        lists = [items.ids for items in self._ranker.rank(interests, k=LONGER_CUTOFF)]
        self._groups += 1
        if self._groups % LOOKED_AT == 0 and self._ranker.model_version:
            model, found = self._ranker.candidates(interests, k=LONGER_CUTOFF)
            wanted = [event.item_id if self._signed_kind(event) >= 0 else "" for event in together]
            self.quality.add(model, found, lists, wanted)
        return [
            lists,
            *(rival.rank(interests, k=LONGER_CUTOFF) for rival in self._rivals),
        ]

    def _score(self, event: Event, lists: list[list[str]]) -> None:
        scores, numbers = self.scores, self._item_numbers
        ranks = [listed.index(event.item_id) if event.item_id in listed else NOT_LISTED for listed in lists]
        for baseline in self._baselines:
            ranks += self._timed("baselines", baseline.ranks, event.user_id, event.item_id).tolist()
        listed = [numbers[item_id] for item_id in lists[0][:CUTOFF]]
        bits = [math.log2(self.events / self._occurrences[number]) for number in listed]
        scores.add(ranks, listed)
        scores.users.append(self._user_numbers.setdefault(event.user_id, len(self._user_numbers)))
        scores.times_ms.append(event.event_time_ms)
        scores.is_new.append(event.item_id not in numbers)
        scores.known_items.append(len(numbers))
        scores.novelty.append(sum(bits) / max(len(bits), 1))

    def _signed_kind(self, event: Event) -> int:
        """Return the kind of an event that was not learned yet, negative if the user does not like the item."""
        state = self._states.get(event.user_id) or InterestState()
        return signed([*state.sequence, entry_of(event)], WEIGHTS)[-1].event_type

    def _learn(self, event: Event, *, is_scored: bool) -> None:
        self.events += 1
        number = self._item_numbers.setdefault(event.item_id, len(self._item_numbers))
        if number == len(self._occurrences):
            self._occurrences.append(0)
        self._occurrences[number] += 1
        if is_interest(self._signed_kind(event)):
            for baseline in self._baselines:
                self._timed("baselines", baseline.learn_one, event.user_id, event.item_id, event.event_time_ms)
        state = self._states.setdefault(event.user_id, InterestState())
        state.fold(event, self._rules)
        state.version += 1
        interest = self._interests[event.user_id] = _interest(event, state, self.events)
        for counting in (self._ranker.count, *(rival.count for rival in self._rivals)):
            self._timed("count", counting, interest)
        if not self._waiting:
            self._waiting_since_ms = event.event_time_ms
        self._waiting.append(interest)
        if len(self._waiting) >= self._micro_batch_events:
            self._train(is_scored=is_scored)

    def _train(self, *, is_scored: bool) -> None:
        for record in self._timed("train", self._live.learn, self._waiting):
            self._timed("apply", self._ranker.apply_update, record)
            if self._frozen is not None and not is_scored:
                self._frozen.apply_update(record)
        self._waiting = []

    def _timed(self, name: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run some work, and add up its CPU time."""
        started_s = time.thread_time()
        done = work(*args, **kwargs)
        self.cpu_s[name] += time.thread_time() - started_s
        return done


def _interest(event: Event, state: InterestState, number: int) -> UserInterest:
    """Return the interest record of a user, without the summaries, which the model does not use.

    Production times are event numbers, because several events in a file may have the same time.
    """
    sequence = signed(state.sequence, WEIGHTS)
    return UserInterest(
        user_id=event.user_id,
        state_version=state.version,
        event_time_ms=sequence[-1].event_time_ms,
        produced_at_ms=number,
        sequence=list(sequence),
        new=[EventPosition(event.source.event_type, event.source.partition, event.offset)],
        short_term={},
        long_term={},
        long_term_items={},
        transitions=[],
        events_count=state.events_count,
        disliked_before=state.disliked_before(sequence),
    )


def _nobody(user_id: str) -> UserInterest:
    """Return the interest of a user without events."""
    return UserInterest(
        user_id=user_id,
        state_version=0,
        event_time_ms=0,
        produced_at_ms=0,
        sequence=[],
        new=[],
        short_term={},
        long_term={},
        long_term_items={},
        transitions=[],
        events_count=0,
    )
