from __future__ import annotations

import numpy as np
import pytest
from builders import sequences

from streamrec.evaluation.sequences import Sequences
from streamrec.evaluation.session_neighbours import Neighbourhood, SessionNeighbours


def weights(memory: SessionNeighbours, prefix: list[int], items: int = 100) -> dict[int, float]:
    found = memory.weigh(sequences(prefix), items)
    return dict(zip(found.keys.tolist(), found.values.tolist(), strict=True))


def remembering(*sessions: list[int], **changes: float) -> SessionNeighbours:
    memory = SessionNeighbours(Neighbourhood(**changes))
    memory.add(sequences(*sessions), 0)
    return memory


def test_what_followed_counts_more_than_what_preceded():
    found = weights(remembering([1, 2, 3]), [2])

    assert found.keys() == {1, 3}
    assert found[3] > found[1]
    assert sum(found.values()) == pytest.approx(1.0)


def test_newer_events_of_the_prefix_count_more():
    found = weights(remembering([1, 10], [2, 20]), [1, 2])

    assert found[20] > found[10]


def test_older_slices_count_less():
    memory = remembering([1, 10])
    memory.add(sequences([1, 20]), 1)
    found = weights(memory, [1])

    assert found[20] > found[10]


def test_an_item_that_was_never_seen_has_no_neighbours():
    memory = remembering([1, 2])

    assert weights(memory, [3]) == {}
    assert weights(memory, [99]) == {}


def test_nothing_is_remembered_at_first():
    memory = SessionNeighbours(Neighbourhood())
    memory.add(Sequences(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.float32)), 0)

    assert weights(memory, [1]) == {}


def test_the_oldest_sessions_leave_a_full_memory():
    memory = remembering([1, 10], [1, 20], events=4)
    memory.add(sequences([2, 30]), 1)

    assert weights(memory, [1]) == {20: pytest.approx(1.0)}


def test_only_so_many_sessions_count():
    found = weights(remembering([1, 10], [1, 20], [1, 2, 30], sessions=1, step_decay=0.9), [1, 2])

    assert found.keys() == {1, 30}
