"""What the channels learn of a micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np

from streamrec.domain.event_context import MAX_CONTEXT_KEYS
from streamrec.domain.feedback import is_interest
from streamrec.domain.interest import SequenceEvent
from streamrec.model.network.micro_batch import UserHistory
from streamrec.model.retrievers.retriever import Lesson
from streamrec.model.tables.context_counts import padded


def lesson_of(histories: Sequence[UserHistory], row_of: Callable[[str], int], shares: np.ndarray) -> Lesson:
    """Return the new events and sequences of users by row; only events that show interest."""
    events, new, ends = list[SequenceEvent](), list[int](), list[int]()
    for history in histories:
        is_new = set(history.new)
        for index, event in enumerate(history.sequence):
            if is_interest(event.event_type):
                if index in is_new:
                    new.append(len(events))
                events.append(event)
        ends.append(len(events))
    return Lesson(
        users=np.array([_hashed(history.user_id) for history in histories], np.int64),
        ends=np.array(ends, np.int64),
        rows=np.array([row_of(event.item_id) for event in events], np.int64),
        event_types=np.array([event.event_type for event in events], np.int64),
        times_ms=np.array([event.event_time_ms for event in events], np.int64),
        new=np.array(new, np.int64),
        shares=shares,
        contexts=np.array([padded(events[index].context) for index in new]).reshape(len(new), MAX_CONTEXT_KEYS),
    )


def _hashed(user_id: str) -> int:
    return int.from_bytes(blake2b(user_id.encode(), digest_size=8).digest(), "little", signed=True)
