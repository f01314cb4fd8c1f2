"""Items unknown to the serving version: counted from the stream, remembered from the catalogue.

A version knows an item a second or more after its first event. Until then, and for catalogue items without events,
these items fill lists that would otherwise be short.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import islice
from threading import Lock

import numpy as np

from streamrec.contracts.derived import UserInterest
from streamrec.domain.feedback import is_interest
from streamrec.domain.interest import SequenceEvent
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.tables.content import MAX_PARTS
from streamrec.model.tables.popularity import CONTROL_HALF_LIFE, Popularity, share_of
from streamrec.model.tables.vocabulary import Vocabulary

MAX_COUNTED_ITEMS = 10_000
"""Maximum number of items counted without a version; beyond it the least recent one is dropped."""

MAX_UNTOUCHED_ITEMS = 250_000
"""Maximum number of catalogue items unknown to any version; beyond it the oldest one is dropped."""


class StreamCounts:
    """Counts the events of items unknown to the serving version; before the first version, of all items."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._vocabulary = Vocabulary(max_items=MAX_COUNTED_ITEMS, on_free=self._clear)
        self._popularity = Popularity()
        self._ranked: list[str] | None = None
        """Cached order, most popular first; reset by counting."""

    def __len__(self) -> int:
        return self._vocabulary.live_items

    def learn(self, interests: Sequence[UserInterest]) -> ServingModel:
        """Count the new events of each user, and return the lists served before the first version."""
        self.count(
            [
                (interest.sequence[index], share_of(interest.sequence, index, is_whole=interest.is_whole))
                for interest in interests
                for index in interest.new_indices()
                if is_interest(interest.sequence[index].event_type)
            ]
        )
        with self._lock:
            return self._as_model()

    def count(self, events: Sequence[tuple[SequenceEvent, float]]) -> None:
        """Count events, weighted by :func:`~streamrec.model.tables.popularity.share_of`."""
        if not events:
            return
        with self._lock:
            rows = [
                self._vocabulary.observe(event.item_id, event.event_time_ms, is_repeat=share < 1.0)[0]
                for event, share in events
            ]
            times_ms = np.array([event.event_time_ms for event, _ in events])
            self._popularity.reserve(len(self._vocabulary))
            self._popularity.add_many(np.array(rows), times_ms, np.array([share for _, share in events]))
            self._ranked = None

    def __contains__(self, item_id: str) -> bool:
        """Whether an item is counted."""
        return bool(self._vocabulary.row(item_id))

    def forget(self, item_ids: Iterable[str]) -> None:
        """Remove items that the version knows now."""
        with self._lock:
            for item_id in item_ids:
                if self._vocabulary.row(item_id):
                    self._vocabulary.remove(item_id)
                    self._ranked = None

    def ranked(self) -> list[str]:
        """Return all items, most popular first."""
        with self._lock:
            if self._ranked is None:
                size = len(self._vocabulary)
                order = np.argsort(-self._popularity.counts[:size, CONTROL_HALF_LIFE], kind="stable")
                ids = self._vocabulary.ids
                self._ranked = [ids[row] for row in order.tolist() if ids[row]]
            return self._ranked

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
            vectors=ItemVectors.empty(1, size),
            counts=popularity.counts[:size].copy(),
            totals=popularity.totals.copy(),
            first_ms=popularity.first_ms[:size].copy(),
            last_ms=last_ms,
            events=self._vocabulary.events[:size].copy(),
            category=np.zeros(size, np.int64),
            words=np.zeros((size, MAX_PARTS), np.uint16),
            reference_ms=popularity.reference_ms,
            newest_event_ms=int(last_ms.max(initial=0)),
        )


class Untouched:
    """Available catalogue items unknown to the serving version; thread-safe for reading."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._items: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item_id: str) -> None:
        """Add an item."""
        with self._lock:
            self._items[item_id] = None
            if len(self._items) > MAX_UNTOUCHED_ITEMS:
                del self._items[next(iter(self._items))]

    def forget(self, item_ids: Iterable[str]) -> None:
        """Remove items that the version knows now, or that were withdrawn."""
        with self._lock:
            for item_id in item_ids:
                self._items.pop(item_id, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items = {}

    def newest(self, count: int, *, but: Container[str]) -> list[str]:
        """Return at most this many items, newest first."""
        with self._lock:
            return list(islice((item_id for item_id in reversed(self._items) if item_id not in but), count))
