"""The items of a list in columns."""

from __future__ import annotations

import base64
import json
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.contracts.listed_items import MAX_LEADS, ListedItems, ListItem, Reason

STEPS = st.integers(-(1 << 15), (1 << 15) - 1).map(lambda steps: round(steps / 256, 3))
REASONS = st.builds(Reason, st.sampled_from(["model", "session", "popular"]), st.none() | st.sampled_from("abc"))


def items_of(priors):
    return st.lists(st.builds(ListItem, st.text("xyz", min_size=1), STEPS, REASONS, priors), max_size=20)


def item(item_id="i1", score=-1.0, channel="model", lead=None, prior=None):
    return ListItem(item_id, score, Reason(channel, lead), prior)


@given(st.one_of(items_of(st.none()), items_of(STEPS)))
def test_items_survive_the_columns_and_the_wire(items):
    columns = ListedItems.of(items)
    assert list(columns) == items
    assert msgspec.json.decode(msgspec.json.encode(columns), type=ListedItems) == columns
    assert (len(columns), columns[:3], bool(columns)) == (len(items), items[:3], bool(items))


@given(items_of(STEPS), st.data())
def test_chosen_items_are_as_they_were(items, data):
    chosen = data.draw(st.lists(st.sampled_from(range(len(items))))) if items else []
    assert list(ListedItems.of(items).taken(chosen)) == [items[place] for place in chosen]


def test_columns_are_what_the_documentation_says():
    wire = json.loads(msgspec.json.encode(ListedItems.of([item(lead="i0", prior=-2.5), item("i2", -3.0, "popular")])))
    scores, priors = (struct.unpack("<2h", base64.b64decode(wire[name])) for name in ("scores", "priors"))
    assert [steps / 256 for steps in scores] == [-1.0, -3.0]
    assert [steps / 256 for steps in priors] == [-2.5, -3.0], "an item without a prior has its score"
    assert list(base64.b64decode(wire["reasons"])) == [0, 1, 1, 0]
    assert (wire["ids"], wire["channels"], wire["leads"]) == (["i1", "i2"], ["model", "popular"], ["i0"])


def test_scores_are_rounded_and_bounded():
    columns = ListedItems.of([item(score=score) for score in (-1.501, 1e9, float("-inf"))])
    assert [each.score for each in columns] == [-1.5, 127.996, -128.0]


def test_a_list_names_a_bounded_number_of_the_users_items():
    columns = ListedItems.of([item(f"i{n}", lead=f"lead-{n}") for n in range(MAX_LEADS + 2)])
    assert [each.reason.item_id for each in columns[-3:]] == [f"lead-{MAX_LEADS - 1}", None, None]
    assert len(columns.leads) == MAX_LEADS


@pytest.mark.parametrize(
    "changed",
    [
        {"ids": ["i1", "i2"]},
        {"scores": "AAAAAA=="},
        {"priors": "AAAAAA=="},
        {"reasons": "AQA="},
        {"reasons": "AAE="},
        {"channels": ["model"] * 65},
    ],
)
def test_columns_that_do_not_fit_each_other_are_refused(changed):
    document = json.loads(msgspec.json.encode(ListedItems.of([item()])))
    msgspec.convert(document, ListedItems)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document | changed, ListedItems)
