from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from streamrec.model.ranking.blend import Blend
from streamrec.model.training.blend_network import BlendNetwork
from streamrec.model.training.groups import MAX_GROUPS, Group, GroupMemory


def group(number):
    """Return two events with one and with two candidates."""
    features = np.full((3, 2), number, np.float16)
    return Group(features, np.array([1, 2]), np.array([0, 1]))


def numbers(groups):
    return [int(each.features[0, 0]) for each in groups]


def test_a_full_memory_keeps_the_latest_groups_and_draws_them_evenly():
    memory = GroupMemory()
    for number in range(MAX_GROUPS + 3):
        assert bool(memory.draw(2)) == (number >= MAX_GROUPS)
        memory.add(group(number))
    drawn = Counter(numbers(memory.draw(10 * MAX_GROUPS)))
    assert sorted(drawn) == list(range(3, MAX_GROUPS + 3))
    assert set(drawn.values()) <= {9, 10, 11}


def test_a_restored_memory_draws_what_the_other_one_would_have():
    memory, restored = GroupMemory(), GroupMemory()
    assert memory.state() == {}
    for number in range(MAX_GROUPS):
        memory.add(group(number))
    memory.draw(3)
    restored.load(memory.state())
    one, other = memory.draw(7), restored.draw(7)
    assert numbers(one) == numbers(other)
    assert all(np.array_equal(*fields) for each in zip(one, other, strict=True) for fields in zip(*each, strict=True))


def test_scores_of_each_event_stand_side_by_side():
    blend = BlendNetwork(Blend.new(["a", "b"], {"a": 1.0}))
    scores = group(4).scores(blend)
    assert scores.tolist() == [[pytest.approx(4.0), -torch.inf], [pytest.approx(4.0), pytest.approx(4.0)]]
