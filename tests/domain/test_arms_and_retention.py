"""Which arm a user is in, when a user was there, and which list an event followed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.domain.arms import CONTROL, PERSONAL, assign_arm
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import DAY_MS
from streamrec.domain.retention import REMEMBERED_LISTS, RememberedList, UserRetention, day_of, item_hashes

CLICKS = Source(EventType.CLICK, 0)
USERS = [f"u{number}" for number in range(10_000)]


def event(at_ms, item_id="a", *, offset=0, id_hash=None, list_id=""):
    return Event("u", item_id, at_ms, CLICKS, offset, id_hash, list_id=list_id)


def made(list_id, at_ms, *item_ids):
    return RememberedList(list_id, at_ms, item_hashes(item_ids))


def control(experiment, share):
    return {user for user in USERS if assign_arm(experiment, user, control_share=share) == CONTROL}


def test_share_of_the_control_arm_is_what_was_asked_for():
    # ten thousand draws: 0.1 lies within five standard deviations
    assert len(control("e", 0.1)) / len(USERS) == pytest.approx(0.1, abs=0.015)


def test_user_stays_in_the_control_arm_when_its_share_grows():
    assert control("e", 0.1) < control("e", 0.2)


def test_another_experiment_draws_anew():
    both = control("e", 0.3) & control("f", 0.3)
    assert len(both) / len(USERS) == pytest.approx(0.09, abs=0.015)


@settings(derandomize=True)
@given(experiment=st.text(), user_id=st.text(min_size=1), share=st.floats(0, 1))
def test_arm_depends_on_names_only(experiment, user_id, share):
    arm = assign_arm(experiment, user_id, control_share=share)
    assert arm == assign_arm(experiment, user_id, control_share=share)
    assert arm in {PERSONAL, CONTROL}


def test_first_and_last_day_do_not_depend_on_the_order_of_events():
    user = UserRetention()
    for offset, day in enumerate((5, 3, 9)):
        assert user.record(event(day * DAY_MS + 1, offset=offset))
    assert (user.first_day, user.last_day) == (3, 9)
    assert day_of(-1) == -1


def test_second_event_with_an_id_is_not_new():
    user = UserRetention()
    assert user.record(event(1, id_hash=7))
    assert not user.record(event(DAY_MS, id_hash=7, offset=1))
    assert user.last_day == 0


def test_list_that_the_event_names_goes_before_all_others():
    user = UserRetention()
    user.remember(made("guessed", 10, "a"))
    assert user.followed(event(20, list_id="named"), window_ms=100) == "named"


def test_newest_earlier_list_is_followed_if_it_holds_the_item_and_is_in_time():
    user = UserRetention()
    user.remember(made("old", 10, "a"))
    user.remember(made("new", 20, "b"))
    assert user.followed(event(30, "b"), window_ms=10) == "new"
    assert user.followed(event(31, "b"), window_ms=10) is None
    assert user.followed(event(30, "a"), window_ms=100) is None
    assert user.followed(event(20, "a"), window_ms=100) == "old"


def test_newest_lists_are_remembered_once_each():
    user = UserRetention()
    for number in range(REMEMBERED_LISTS + 2):
        assert user.remember(made(f"l{number}", number, "a"))
    assert not user.remember(made(f"l{REMEMBERED_LISTS + 1}", 99, "a"))
    assert [each.list_id for each in user.lists] == ["l2", "l3", "l4"]


def test_lists_that_are_made_again_from_an_old_log_are_not_new():
    user = UserRetention()
    lists = [made(f"l{number}", number, "a") for number in range(REMEMBERED_LISTS + 2)]
    assert [user.remember(each) for each in lists + lists] == [True] * len(lists) + [False] * len(lists)
