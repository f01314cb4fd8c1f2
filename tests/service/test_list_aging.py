from __future__ import annotations

import msgspec
import pytest
from builders import NOW_MS

from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.service.list_aging import TRUST_HALF_LIFE_MS, brought_up_to_date, hide

LONG_MS = 1_000 * TRUST_HALF_LIFE_MS


def listed(scores, *, age_ms=0):
    """Make a list of items with their scores and priors, best first."""
    return TopKList(
        state_version=1,
        list_id="l1",
        user_id="u1",
        items=ListedItems.of(
            [ListItem(item_id, score, Reason("model"), prior) for item_id, (score, prior) in scores.items()]
        ),
        model_version="m1",
        arm="personal",
        event_time_ms=NOW_MS - age_ms,
        produced_at_ms=NOW_MS,
        made_at_ms=NOW_MS,
    )


def default(**scores):
    return listed({item_id: (score, score) for item_id, score in scores.items()})


def scores(topk):
    return {item.item_id: item.score for item in topk.items}


def test_what_has_not_changed_stays():
    own = listed({"a": (-1.0, -2.0), "b": (-2.0, -3.0), "c": (-3.0, -9.0)}, age_ms=LONG_MS)
    assert scores(brought_up_to_date(own, default(a=-2.0, b=-3.0, z=-9.0))) == scores(own)


def test_an_item_moves_by_the_change_of_its_prior():
    own = listed({"a": (-1.0, -2.0), "b": (-2.0, -5.0), "c": (-3.0, -6.0)}, age_ms=1)
    assert scores(brought_up_to_date(own, default(b=-3.5, a=-5.0, z=-6.0))) == {"b": -0.5, "c": -3.0, "a": -4.0}


def test_what_neither_default_list_shows_cannot_be_compared():
    own = listed({"a": (-1.0, -2.0), "b": (-2.0, -8.0)}, age_ms=1)
    assert scores(brought_up_to_date(own, default(z=-3.0, y=-4.0))) == {"b": -2.0, "a": -3.0}


def test_the_older_a_list_the_less_it_says_of_what_it_leaves_out():
    recent, old = (listed({"a": (-1.0, -2.0), "b": (-3.0, -3.0)}, age_ms=age_ms) for age_ms in (1, LONG_MS))
    now = default(new=-0.5, a=-2.0, b=-3.0)
    assert list(scores(brought_up_to_date(recent, now))) == ["a", "new"]
    assert scores(brought_up_to_date(old, now)) == {"new": -0.5, "a": -1.0}


@pytest.mark.parametrize("age_ms", [0, -1])
def test_a_list_as_new_as_the_default_is_unchanged(age_ms):
    own = listed({"a": (-1.0, -2.0)}, age_ms=age_ms)
    assert brought_up_to_date(own, default(b=-0.1)) is own


def test_a_list_that_knows_no_probabilities_is_unchanged():
    """As those of the control arm, and all that were made before the first model."""
    counted = listed({"a": (3.0, None)}, age_ms=LONG_MS)
    assert brought_up_to_date(counted, default(b=-0.1)) is counted
    own = listed({"a": (-1.0, -2.0)}, age_ms=LONG_MS)
    assert brought_up_to_date(own, listed({"b": (3.0, None)})) is own
    assert brought_up_to_date(own, msgspec.structs.replace(own, items=[])) is own
    assert brought_up_to_date(msgspec.structs.replace(own, items=[]), listed({})).items == []


def test_a_later_stage_does_not_undo_a_rule_of_an_earlier_one():
    """What a list hides stays hidden when the list ages, however popular it is."""
    own = listed({"a": (-1.0, -2.0), "b": (-3.0, -3.0)}, age_ms=LONG_MS)
    now = default(bought=-0.1, new=-0.5, a=-2.0, b=-3.0)
    assert list(scores(brought_up_to_date(own, now))) == ["bought", "new"]
    hiding = msgspec.structs.replace(own, hidden=hide(["bought", "other"]))
    assert list(scores(brought_up_to_date(hiding, now))) == ["new", "a"]


@pytest.mark.parametrize("prior", [None, -2.0])
def test_a_list_of_hidden_items_gives_way_to_any_others(prior):
    """As that of a shop's first buyer, which could hold nothing else."""
    only = msgspec.structs.replace(listed({"bought": (-1.0, prior)}), hidden=hide(["bought"]))
    assert list(scores(brought_up_to_date(only, default(bought=-0.1, new=-0.5)))) == ["new"]
    assert brought_up_to_date(only, default(bought=-0.1)) is only


def test_an_empty_list_gives_way_to_the_default_without_what_it_hides():
    """As one whose items were all withdrawn."""
    empty = msgspec.structs.replace(listed({}), hidden=hide(["bought"]))
    assert list(scores(brought_up_to_date(empty, default(bought=-0.1, new=-0.5)))) == ["new"]
