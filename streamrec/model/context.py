"""A user as the retrievers see it: a sequence in the terms of one model version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamrec.domain.interest import SequenceEvent
from streamrec.model.content import category_code
from streamrec.model.serving import ServingModel


@dataclass(slots=True)
class Context:
    """A user as the retrievers see it.

    Attributes
    ----------
    rows, event_types, times_ms, categories
        The sequence, oldest first; row 0 where this version does not know the item.
    now_ms
        The instant to recommend for.
    """

    rows: np.ndarray
    event_types: np.ndarray
    times_ms: np.ndarray
    categories: np.ndarray
    now_ms: int


def make_context(model: ServingModel, sequence: Sequence[SequenceEvent]) -> Context:
    """Return the context of a user with this sequence, oldest first."""
    # a user may be behind the stream, never ahead of it by more than the model's own delay
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
    )
