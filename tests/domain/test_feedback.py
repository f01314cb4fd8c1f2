"""What a user likes and does not like, by kind of event and by ratings relative to the user's own."""

from __future__ import annotations

import pytest

from streamrec.domain.event import Event, EventType, Source, kind_in, percent_in
from streamrec.domain.feedback import WEIGHTS, read_weights, signed, weight_of
from streamrec.domain.interest import InterestState, SequenceEvent
from streamrec.domain.summary import summarise

NOW_MS = 1_760_000_000_000


def sequence(*kinds):
    """Return a sequence of events; a number is a rating in percent."""
    events = []
    for offset, kind in enumerate(kinds):
        event_type, percent = (EventType.RATING, kind) if type(kind) is int else (kind, 0)
        event = Event("u", f"i{offset}", NOW_MS + offset, Source(event_type, 0), offset, percent=percent)
        events.append(SequenceEvent(NOW_MS + offset, event.graded_type, 0, offset, event.item_id, "c"))
    return events


def signs(*kinds, weights=WEIGHTS):
    return [event.event_type for event in signed(sequence(*kinds), weights)]


def test_the_number_of_an_event_holds_its_kind_and_its_grade():
    for kind in EventType:
        for percent in (0, 1, 99, 100):
            graded = Event("u", "i", NOW_MS, Source(kind, 0), 0, percent=percent).graded_type
            assert (kind_in(graded), percent_in(graded)) == (kind, percent)


def test_dislikes_and_returns_are_negative_and_everything_else_is_not():
    kinds = [kind for kind in EventType if kind is not EventType.RATING]
    negative = {EventType.DISLIKE, EventType.RETURN}
    assert signs(*kinds) == [-kind if kind in negative else kind for kind in kinds]


def test_a_rating_is_judged_by_the_users_other_ratings():
    generous, strict = signs(100, 100, 100, 100, 60), signs(40, 20, 40, 20, 60)
    assert generous == [9, 9, 9, 9, -9]
    assert strict == [9, -9, 9, -9, 9]


def test_a_users_first_rating_is_judged_by_itself():
    assert [signs(percent) for percent in (20, 40, 60, 100)] == [[-9], [9], [9], [9]]


def test_weights_set_the_sign():
    weights = read_weights(" return=1, like = -2 ")
    assert signs(EventType.RETURN, EventType.LIKE, weights=weights) == [EventType.RETURN, -EventType.LIKE]
    assert weights[EventType.PURCHASE] == WEIGHTS[EventType.PURCHASE]
    assert read_weights("") == WEIGHTS


@pytest.mark.parametrize(
    "text",
    ["like", "like=", "like=much", "like=0", "like=nan", "like=101", "stare=1", "=1", ",", "purchase=-1", "rating=-3"],
)
def test_weights_that_cannot_be_read_are_refused_by_name(text):
    with pytest.raises(ValueError, match=r"not a kind of event|the weight of like must be a number|cannot be negative"):
        read_weights(text)


def test_what_a_user_does_not_like_lowers_the_interest():
    clicks, disliked = (
        InterestState(sequence=sequence(EventType.CLICK)),
        InterestState(sequence=sequence(EventType.CLICK, EventType.DISLIKE)),
    )
    assert summarise(disliked).short_term["c"] < 0 < summarise(clicks).short_term["c"]
    assert summarise(disliked).long_term_items["i1"][0] < 0


def test_a_grade_scales_the_weight():
    watched = Event("u", "i", NOW_MS, Source(EventType.WATCH, 0), 0, percent=25).graded_type
    rated = [Event("u", "i", NOW_MS, Source(EventType.RATING, 0), 0, percent=p).graded_type for p in (0, 50, 100)]
    assert weight_of(watched, WEIGHTS) == 0.25 * WEIGHTS[EventType.WATCH]
    assert [weight_of(each, WEIGHTS) for each in rated] == [-3.0, 0.0, 3.0]
