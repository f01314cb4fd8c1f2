"""A fence admits each offset once, exactly within its window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamrec.service.fence import WINDOW_OFFSETS, PositionFence


@given(st.lists(st.integers(0, 300)))
def test_a_fence_admits_each_offset_once(offsets):
    fence, seen = PositionFence(), set()
    for offset in offsets:
        assert fence.admit(offset) == (offset not in seen)
        seen.add(offset)


@given(st.sets(st.integers(0, 300)), st.sets(st.integers(0, 300)))
def test_fences_join_and_leave_out_like_sets(one, other):
    def fence_of(offsets):
        fence = PositionFence()
        for offset in sorted(offsets):
            fence.admit(offset)
        return fence

    joined, left = fence_of(one), fence_of(one)
    joined.join(fence_of(other))
    left.leave_out(fence_of(other))
    assert {offset for offset in range(320) if offset in joined} == one | other
    assert {offset for offset in range(320) if offset in left} == one - other


def test_joined_fences_know_their_windows():
    old, new = PositionFence(), PositionFence()
    old.admit(3)
    old.admit(10)
    new.admit(WINDOW_OFFSETS + 5)
    old.join(new)
    assert 10 in old
    assert WINDOW_OFFSETS + 5 in old
    assert 3 not in old


def test_a_fence_is_exact_within_its_window_and_refuses_what_is_older():
    fence = PositionFence()
    assert fence.admit(5)
    assert fence.admit(WINDOW_OFFSETS + 4)
    assert not fence.admit(5)
    assert fence.admit(6)
    assert fence.admit(WINDOW_OFFSETS + 5)
    assert not fence.admit(3)
    again = PositionFence(fence.highest, fence.bits)
    assert not again.admit(6)
    assert again.admit(7)
    assert fence.admit(10 * WINDOW_OFFSETS)
    assert len(fence.bits) <= WINDOW_OFFSETS // 8
