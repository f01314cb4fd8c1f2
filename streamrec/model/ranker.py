"""From interests to lists: retrieve candidates, weigh them, say why each one is there."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from streamrec.contracts.derived import ListItem, UserInterest
from streamrec.contracts.incoming import Item
from streamrec.domain.interest import SequenceEvent
from streamrec.model.candidates import MODEL_CANDIDATES, encode, find
from streamrec.model.context import Context, make_context
from streamrec.model.lists import Prior, best_lists, filled, most_popular, warm_up
from streamrec.model.popularity import CONTROL_HALF_LIFE, Popularity, share_of
from streamrec.model.serving import ServingModel
from streamrec.model.updates import UpdateReader
from streamrec.model.vocabulary import Vocabulary

BEFORE_FIRST_MODEL_ITEMS = 10_000
"""Items that are counted here until the first model version arrives."""

MAX_RECENT_EVENTS = 8_192
"""Events that are counted on top of a version until the next one has learned them."""

MAX_RISEN = 256
"""Their newest rows are candidates of every user."""

MAX_WITHDRAWN = 1_000_000
"""Withdrawn items that are remembered; beyond it the one that was withdrawn first is forgotten."""

MAX_SCORES = 8_000_000
"""Lists are made together as long as users times items are not more: 32 MiB of scores."""


class _Later(NamedTuple):
    """An event that came after the serving version, when it was produced, and what it counts for."""

    produced_at_ms: int
    event: SequenceEvent
    share: float


class ModelRanker:
    """Ranks by the newest whole model version; before there is one, by what is popular among those it was asked for.

    Popularity cannot wait for the next version: the events of those it is asked for count at once, on top of it. Any
    thread may rank while another one applies updates: all that was trained in a version serves together.

    Parameters
    ----------
    hide_seen
        Whether lists leave out what is in the user's sequence, unless nothing else is left.
    """

    def __init__(self, *, hide_seen: bool) -> None:
        self._hide_seen = hide_seen
        self._base = ServingModel()
        """The serving version as it came."""
        self._model = self._base
        """The same with the newest events counted on top of it."""
        self._reader = UpdateReader()
        self._withdrawn: dict[str, None] = {}
        self._withdrawn_changes = 0
        self._withdrawn_rows: tuple[int, ServingModel, np.ndarray] = (-1, self._model, np.zeros(0, np.int64))
        self._own = _OwnCounts()
        self._lock = Lock()
        self._recent: dict[tuple[int, int, int], _Later] = {}
        """Events that the serving version has not learned, by source position."""
        self._risen: dict[int, None] = {}
        """Their rows."""
        self._prior: Prior | None = None
        warm_up()
        # lists are small work: threads would cost more than they bring, and take cores from others
        torch.set_num_threads(1)

    @property
    def model_version(self) -> str:
        """The version that serves, empty before the first."""
        return self._model.version

    @property
    def newest_event_time_ms(self) -> int:
        """Event time of the newest event that the serving version has learned, 0 before the first."""
        return self._base.newest_event_ms

    @property
    def newest_produced_at_ms(self) -> int:
        """Production time of the newest event that the serving version has learned."""
        return self._reader.newest_produced_at_ms

    def apply_update(self, value: bytes) -> None:
        """Take in one record of `model-updates`; a version serves once all of it is here."""
        base = self._reader.apply(value, self._base)
        if base is None:
            return
        with self._lock:
            # the version holds what was produced up to then; what came later is counted on top of it
            learned_ms = self._reader.newest_produced_at_ms
            self._base, self._model, self._risen = base, base.countable(), {}
            self._recent = {
                position: later for position, later in self._recent.items() if later.produced_at_ms > learned_ms
            }
            self._count(list(self._recent.values()))

    def put_item(self, item: Item) -> None:
        """Learn what the catalogue says of an item."""
        if not item.available:
            self.delete_item(item.item_id)
        elif item.item_id in self._withdrawn:
            del self._withdrawn[item.item_id]
            self._withdrawn_changes += 1

    def delete_item(self, item_id: str) -> None:
        """Leave an item out of every list from now on."""
        self._withdrawn[item_id] = None
        if len(self._withdrawn) > MAX_WITHDRAWN:
            del self._withdrawn[next(iter(self._withdrawn))]
        self._withdrawn_changes += 1

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[list[ListItem]]:
        """Return the best items of each user, best first, at most `k`; never empty once any event was seen."""
        if not interests:
            return []
        model = self._serving(interests)
        if model.version and self._prior is None:
            self.default(k=k)
        contexts = [make_context(model, interest.sequence) for interest in interests]
        return self._rank(model, contexts, k)

    def count(self, interest: UserInterest) -> None:
        """Count the new events of a user who needs no list now."""
        self._serving([interest])

    def popular(self, interests: Sequence[UserInterest], *, k: int) -> list[list[ListItem]]:
        """Return recently popular items of each user under the same rules, for the control arm."""
        model = self._serving(interests)
        return [self._popular(model, make_context(model, interest.sequence), k) for interest in interests]

    def default(self, *, k: int) -> list[ListItem]:
        """Return the list for a user nobody knows."""
        model = self._serving(())
        items = self._rank(model, [make_context(model, [])], k)[0]
        if not model.version:
            return items
        self._prior = Prior({item.item_id: item.score for item in items}, items[-1].score if items else 0.0)
        return [msgspec.structs.replace(item, prior=item.score) for item in items]

    def _serving(self, interests: Sequence[UserInterest]) -> ServingModel:
        if not self._base.version:
            return self._own.learn(interests)
        with self._lock:
            learned_ms = self._reader.newest_produced_at_ms
            self._note([interest for interest in interests if interest.produced_at_ms > learned_ms])
            return self._model

    def _note(self, interests: Sequence[UserInterest]) -> None:
        """Count the new events of users once, however often they are ranked for."""
        later = []
        for interest in interests:
            for index in interest.new_indices():
                event = interest.sequence[index]
                position = (event.event_type, event.partition, event.offset)
                if position not in self._recent:
                    share = share_of(interest.sequence, index, is_whole=interest.is_whole)
                    self._recent[position] = _Later(interest.produced_at_ms, event, share)
                    later.append(self._recent[position])
        self._count(later)
        while len(self._recent) > MAX_RECENT_EVENTS:
            del self._recent[next(iter(self._recent))]

    def _count(self, later: Sequence[_Later]) -> None:
        model = self._model
        known = [(row, event.event_time_ms, share) for _, event, share in later if (row := model.row(event.item_id))]
        if known:
            rows, times_ms, shares = zip(*known, strict=True)
            model.count(rows, times_ms, shares)
            self._risen.update(dict.fromkeys(rows))

    def _withdrawn_in(self, model: ServingModel) -> np.ndarray:
        """Return the rows of withdrawn items, distinct."""
        changes, of_model, rows = self._withdrawn_rows
        if changes != self._withdrawn_changes or of_model is not model:
            changes = self._withdrawn_changes
            # list() is atomic: the catalogue may change in another thread meanwhile
            rows = np.unique(np.array([model.row(item_id) for item_id in list(self._withdrawn)], np.int64))
            rows = rows[rows > 0]
            self._withdrawn_rows = (changes, model, rows)
        return rows

    def _rank(self, model: ServingModel, contexts: Sequence[Context], k: int) -> list[list[ListItem]]:
        together = max(1, MAX_SCORES // model.size)
        parts = [contexts[start : start + together] for start in range(0, len(contexts), together)]
        return [items for part in parts for items in self._rank_together(model, part, k)]

    def _rank_together(self, model: ServingModel, contexts: Sequence[Context], k: int) -> list[list[ListItem]]:
        found = find(
            model,
            contexts,
            encode(model, contexts),
            hide_seen=self._hide_seen,
            model_candidates=max(k, MODEL_CANDIDATES),
            withdrawn=self._withdrawn_in(model),
            risen=np.array(list(self._risen)[-MAX_RISEN:], np.int64),
        )
        with torch.inference_mode():
            scores = model.blend(torch.from_numpy(found.features)).numpy()
        lists = best_lists(model, contexts, found, scores, k, self._prior)
        return [
            items if len(items) == k else filled(items, self._popular(model, context, k), k)
            for items, context in zip(lists, contexts, strict=True)
        ]

    def _popular(self, model: ServingModel, context: Context, k: int) -> list[ListItem]:
        counts = model.counts[: model.size, CONTROL_HALF_LIFE].copy()
        counts[self._withdrawn_in(model)] = 0.0
        counts[0] = 0.0
        left = counts
        if self._hide_seen:
            left = counts.copy()
            left[context.rows] = 0.0
        return most_popular(model, left, k) or most_popular(model, counts, k)


class _OwnCounts:
    """Popularity among the users of this process, for the time before the first model version."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._vocabulary = Vocabulary(max_items=BEFORE_FIRST_MODEL_ITEMS, on_free=self._clear)
        self._popularity = Popularity()

    def learn(self, interests: Sequence[UserInterest]) -> ServingModel:
        """Count the new events of each user, and return what serves."""
        with self._lock:
            for interest in interests:
                for index in interest.new_indices():
                    event = interest.sequence[index]
                    share = share_of(interest.sequence, index, is_whole=interest.is_whole)
                    row, _ = self._vocabulary.observe(event.item_id, event.event_time_ms, is_repeat=share < 1.0)
                    self._popularity.reserve(len(self._vocabulary))
                    self._popularity.add_many(np.array([row]), np.array([event.event_time_ms]), np.array([share]))
            return self._as_model()

    def _clear(self, row: int) -> None:
        self._popularity.clear(row)

    def _as_model(self) -> ServingModel:
        popularity, size = self._popularity, len(self._vocabulary)
        ids = self._vocabulary.ids.copy()
        last_ms = popularity.last_ms[:size].copy()
        return ServingModel(
            ids=ids,
            rows={item_id: row for row, item_id in enumerate(ids) if item_id},
            size=size,
            vectors=np.zeros((size, 1), np.float32),
            counts=popularity.counts[:size].copy(),
            totals=popularity.totals.copy(),
            first_ms=popularity.first_ms[:size].copy(),
            last_ms=last_ms,
            events=self._vocabulary.events[:size].copy(),
            category=np.zeros(size, np.int64),
            neighbours=np.zeros((size, 1), np.int32),
            shares=np.zeros((size, 1), np.float32),
            reference_ms=popularity.reference_ms,
            newest_event_ms=int(last_ms.max(initial=0)),
        )
