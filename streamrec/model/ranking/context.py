"""User context for retrievers: a sequence in terms of one model version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from streamrec.domain.interest import SequenceEvent
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.tables.content import category_code


@dataclass(slots=True)
class Context:
    """User context for retrievers.

    Attributes
    ----------
    rows, event_types, times_ms, categories
        The sequence, oldest first; row 0 for items unknown to this version.
    now_ms
        Time to recommend for.
    seen_before
        Rows of known seen items from before the sequence.
    """

    rows: np.ndarray
    event_types: np.ndarray
    times_ms: np.ndarray
    categories: np.ndarray
    now_ms: int
    seen_before: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def left_out(self) -> np.ndarray:
        """Rows of all seen items, for lists that hide them; may contain duplicates and row 0."""
        return np.concatenate([self.rows, self.seen_before])


def make_context(model: ServingModel, sequence: Sequence[SequenceEvent], seen_before: Sequence[str] = ()) -> Context:
    """Return the context of a user with this sequence, oldest first, and these seen items from before it."""
    # a user may be behind the stream, but not ahead of it by more than the model's delay
    now_ms = max(model.newest_event_ms, sequence[-1].event_time_ms if sequence else 0)
    rows = np.array([model.row(event.item_id) for event in sequence], np.int64)
    categories = model.category[rows] if len(rows) else np.zeros(0, np.int64)
    for index, event in enumerate(sequence):
        if event.category:
            categories[index] = category_code(event.category)
    return Context(
        rows=rows,
        event_types=np.array([event.event_type for event in sequence], np.int64),
        times_ms=np.array([event.event_time_ms for event in sequence], np.int64),
        categories=categories,
        now_ms=now_ms,
        seen_before=np.array([row for item_id in seen_before if (row := model.row(item_id))], np.int64),
    )
