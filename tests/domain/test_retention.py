"""Retention counts an event exactly when the interest state does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.event_ids import RECENT_IDS
from streamrec.domain.interest import FoldRules, InterestState, Outcome
from streamrec.domain.retention import MAX_REMEMBERED_ITEMS, RememberedList, UserRetention, item_hash

KINDS = EventType.CLICK, EventType.PURCHASE, EventType.ADD_TO_CART
SOURCES = [Source(kind, partition) for kind in KINDS for partition in range(2)]


@settings(derandomize=True)
@given(
    steps=st.lists(
        # so many ids that some leave the ring and come again
        st.tuples(st.sampled_from(SOURCES), st.none() | st.integers(0, RECENT_IDS + 5), st.integers(0, 1)),
        max_size=400,
    )
)
def test_what_interests_apply_is_what_retention_counts(steps):
    state, user = InterestState(), UserRetention()
    for offset, (source, id_hash, content_hash) in enumerate(steps):
        event = Event("u", "a", 1_000 + offset, source, offset, id_hash, content_hash=content_hash)
        applied = state.fold(event, FoldRules(50)) is Outcome.APPLIED
        assert user.record(event) == applied
    assert all(len(ids) <= RECENT_IDS for ids in user.recent_ids.values())


def test_an_id_is_new_again_after_fifty_others_in_its_partition():
    user = UserRetention()
    numbers = [*range(RECENT_IDS), 0, RECENT_IDS, 0]
    new = [user.record(Event("u", "a", 1, SOURCES[0], offset, number)) for offset, number in enumerate(numbers)]
    assert new == [True] * RECENT_IDS + [False, True, True]
    assert user.record(Event("u", "a", 1, SOURCES[1], 0, RECENT_IDS))


def test_a_list_that_is_made_again_counts_once_and_all_it_showed_can_be_followed():
    user = UserRetention()
    assert user.remember(RememberedList("l1", 1_000, frozenset([item_hash("a")])))
    assert not user.remember(RememberedList("l1", 1_000, frozenset([item_hash("b")])))
    for item_id in "ab":
        click = Event("u", item_id, 2_000, Source(EventType.CLICK, 0), offset=1)
        assert user.followed(click, window_ms=5_000) == "l1"
    assert len(user.lists) == 1


def test_what_a_list_showed_is_remembered_within_bounds():
    user = UserRetention()
    for start in range(0, 3 * MAX_REMEMBERED_ITEMS, 500):
        user.remember(RememberedList("l1", 1_000, frozenset(range(start, start + 500))))
        assert len(user.lists[0].items) <= MAX_REMEMBERED_ITEMS
