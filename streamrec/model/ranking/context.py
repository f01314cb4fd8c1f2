"""User context for retrievers: a sequence in terms of one model version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamrec.domain.feedback import is_interest
from streamrec.domain.interest import SequenceEvent
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.tables.content import category_code
from streamrec.model.tables.context_counts import padded


@dataclass(slots=True)
class Context:
    """User context for retrievers.

    Attributes
    ----------
    rows, event_types, times_ms, categories
        The sequence, oldest first; row 0 for items unknown to this version. Types are signed kinds.
    now_ms
        Time to recommend for.
    left_out
        Rows that lists leave out; may contain duplicates and row 0.
    codes
        Codes of the context of the latest event, 0 for padding, `(MAX_CONTEXT_KEYS,)`.
    """

    rows: np.ndarray
    event_types: np.ndarray
    times_ms: np.ndarray
    categories: np.ndarray
    now_ms: int
    left_out: np.ndarray
    codes: np.ndarray

    @property
    def of_interest(self) -> Context:
        """The same with the events that show interest only."""
        if (self.event_types >= 0).all():
            return self
        shows_interest = np.array(list(map(is_interest, self.event_types.tolist())))
        return replace(
            self,
            rows=self.rows[shows_interest],
            event_types=self.event_types[shows_interest],
            times_ms=self.times_ms[shows_interest],
            categories=self.categories[shows_interest],
        )


def make_context(
    model: ServingModel, sequence: Sequence[SequenceEvent], *, hide_seen: bool = False, hidden: Iterable[str] = ()
) -> Context:
    """Return the context of a user.

    Parameters
    ----------
    sequence
        The user's events, oldest first.
    hide_seen
        Whether lists leave out the items of the sequence.
    hidden
        Items of earlier events that they leave out.
    """
    # a user may be behind the stream, but not ahead of it by more than the model's delay
    now_ms = max(model.newest_event_ms, sequence[-1].event_time_ms if sequence else 0)
    rows = np.array([model.row(event.item_id) for event in sequence], np.int64)
    categories = model.category[rows] if len(rows) else np.zeros(0, np.int64)
    for index, event in enumerate(sequence):
        if event.category:
            categories[index] = category_code(event.category)
    event_types = np.array([event.event_type for event in sequence], np.int64)
    before = np.array([row for item_id in hidden if (row := model.row(item_id))], np.int64)
    return Context(
        rows=rows,
        event_types=event_types,
        times_ms=np.array([event.event_time_ms for event in sequence], np.int64),
        categories=categories,
        now_ms=now_ms,
        left_out=np.concatenate([rows if hide_seen else _disliked(rows, event_types), before]),
        codes=padded(sequence[-1].context if sequence else ()),
    )


def _disliked(rows: np.ndarray, event_types: np.ndarray) -> np.ndarray:
    """Return the rows of items that the user did not like and has not come back to."""
    if (event_types >= 0).all():
        return rows[:0]
    last = dict(zip(rows.tolist(), event_types.tolist(), strict=True))
    return np.array([row for row, event_type in last.items() if event_type < 0], np.int64)
