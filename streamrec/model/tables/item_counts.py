"""Counts of items: vocabulary, popularity, categories, and changes since the last version."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamrec.domain.interest import SequenceEvent
from streamrec.model.tables.popularity import Popularity
from streamrec.model.tables.vocabulary import Vocabulary, grown, pack_ids
from streamrec.model.tensors import Arrays, below, prefixed


class ItemCounts:
    """Counts the events of items, by row.

    Parameters
    ----------
    max_items, admit_after, time_to_live_days
        See :class:`~streamrec.model.tables.vocabulary.Vocabulary`.
    on_free
        Called with a row before it is given to another item.
    """

    def __init__(
        self,
        *,
        max_items: int = 1_000_000,
        admit_after: int,
        time_to_live_days: float = 90.0,
        on_free: Callable[[int], None],
    ) -> None:
        self.vocabulary = Vocabulary(
            max_items=max_items, admit_after=admit_after, time_to_live_days=time_to_live_days, on_free=self._clear
        )
        self.popularity = Popularity()
        self.category = np.zeros(1024, np.int64)
        self.newest_event_ms = 0
        self.renamed: set[int] = set()
        """Rows whose id changed since the last version."""
        self.counted: set[int] = set()
        """Rows whose counts or category changed since."""
        self._on_free = on_free

    def __len__(self) -> int:
        """Return the number of rows, used or free: the required table size."""
        return len(self.vocabulary)

    def observe(self, event: SequenceEvent, share: float = 1.0) -> tuple[int, bool]:
        """Count an event in the vocabulary; return its row and whether the item is new.

        Parameters
        ----------
        share
            Weight of the event, from :func:`~streamrec.model.tables.popularity.share_of`.
        """
        row, is_new = self.vocabulary.observe(event.item_id, event.event_time_ms, is_repeat=share < 1.0)
        self.counted.add(row)
        if is_new:
            self.renamed.add(row)
            self.popularity.reserve(row + 1)
            self.category = grown(self.category, row + 1)
        self.newest_event_ms = max(self.newest_event_ms, event.event_time_ms)
        return row, is_new

    def set_category(self, row: int, category: int) -> None:
        """Set the category code of an item."""
        self.category[row] = category
        self.counted.add(row)

    def changes(self, *, everything: bool) -> Arrays:
        """Return changes since the last call, or everything, as named arrays."""
        if everything:
            self.renamed = self.counted = set(range(1, len(self)))
        renamed = np.array(sorted(self.renamed), np.int64)
        counted = np.array(sorted(self.counted), np.int64)
        popularity = self.popularity
        changes = {
            "vocabulary.rows": renamed,
            "vocabulary.ids": pack_ids([self.vocabulary.ids[row] for row in renamed]),
            "count_rows": counted,
            "counts": popularity.counts[counted],
            "first_ms": popularity.first_ms[counted],
            "last_ms": popularity.last_ms[counted],
            "events": self.vocabulary.events[counted],
            "category": self.category[counted],
            "totals": popularity.totals.copy(),
            "reference_ms": np.array([popularity.reference_ms]),
            "newest_event_ms": np.array([self.newest_event_ms]),
        }
        self.renamed, self.counted = set(), set()
        return changes

    def state(self) -> Arrays:
        """Return the state as arrays, for a checkpoint."""
        return {
            **prefixed("vocabulary", self.vocabulary.state()),
            **prefixed("popularity", self.popularity.state(len(self))),
            "category": self.category[: len(self)].copy(),
            "newest_event_ms": np.array([self.newest_event_ms]),
        }

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        self.vocabulary.load(below("vocabulary", state))
        self.popularity.load(below("popularity", state))
        self.category = state["category"].copy()
        self.newest_event_ms = int(state["newest_event_ms"][0])

    def _clear(self, row: int) -> None:
        self.popularity.clear(row)
        self.counted.add(row)
        self.renamed.add(row)
        self.category[row] = 0
        self._on_free(row)
