"""The channel of titles: likeness of items by words."""

from __future__ import annotations

import numpy as np
import pytest

from streamrec.domain.interest import SequenceEvent
from streamrec.model.ranking.candidates import find
from streamrec.model.ranking.context import make_context
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.channels import retrievers_of
from streamrec.model.tables.content import content_buckets
from streamrec.model.tables.popularity import HALF_LIVES_MS

TITLES = ["red cotton bag", "blue cotton bag", "cotton bag", "iron pan", "red iron pan", "wooden spoon", "", ""]
"""Of the rows from 1 on."""


@pytest.fixture
def model():
    """Return a version that has the channel and these items."""
    ids = ["", *(f"i{row}" for row in range(1, len(TITLES) + 1))]
    return ServingModel(
        ids=ids,
        rows={item_id: row for row, item_id in enumerate(ids) if item_id},
        size=len(ids),
        vectors=np.zeros((len(ids), 4), np.float32),
        counts=np.ones((len(ids), len(HALF_LIVES_MS)), np.float32),
        first_ms=np.ones(len(ids), np.int64),
        last_ms=np.ones(len(ids), np.int64),
        events=np.ones(len(ids), np.int64),
        category=np.zeros(len(ids), np.int64),
        words=np.array([content_buckets(0, title) for title in ["", *TITLES]], np.uint16),
        retrievers=retrievers_of(["title"]),
    )


def described(model, *item_ids):
    """Return the candidates of a user with events on these items, and the channel's features by item."""
    sequence = [SequenceEvent(1_000 * n, 0, 0, n, item_id, "") for n, item_id in enumerate(item_ids)]
    found = find(model, [make_context(model, sequence)], np.zeros((1, 4), np.float32), k=5)
    rows = found.candidates.rows.tolist()
    return found, dict(zip((model.ids[row] for row in rows), found.retrievals[0].features.T.tolist(), strict=True))


def test_items_that_share_words_with_the_latest_ones_are_candidates(model):
    _, features = described(model, "i7", "i1")
    assert {"i2", "i3", "i5"} <= features.keys()
    assert features.keys().isdisjoint({"i4", "i6", "i8"})


def test_likeness_is_the_cosine_of_words_weighed_by_how_rare_they_are(model):
    _, features = described(model, "i6", "i1")
    idf = {word: np.log(10 / (1 + sum(word in title.split() for title in TITLES))) for word in ("red", "cotton", "bag")}
    of_first = sum(each**2 for each in idf.values())
    of_third = idf["cotton"] ** 2 + idf["bag"] ** 2
    expected = of_third / np.sqrt(of_first * of_third)
    last, nearest, recent = features["i3"]
    assert last == pytest.approx(expected, rel=1e-5)
    assert nearest == pytest.approx(expected, rel=1e-5)
    assert recent == pytest.approx(expected * 0.8 / (0.8 + 0.64), rel=1e-5)


def test_an_item_is_not_compared_with_itself(model):
    _, features = described(model, "i6", "i1")
    assert features["i1"] == [0.0, 0.0, 0.0]


def test_the_reason_is_the_most_similar_item_of_the_user(model):
    found, _ = described(model, "i4", "i2")
    chosen = np.flatnonzero(found.candidates.rows == 5)
    (retriever,) = model.retrievers
    assert model.ids[retriever.leads(found.retrievals[0], chosen)[0]] == "i4"
    assert retriever.explains(found.retrievals[0], chosen)[0] > 0.3
    untitled = np.flatnonzero(found.candidates.rows == 2)
    assert retriever.explains(found.retrievals[0], untitled)[0] == pytest.approx(0.0)


def test_items_without_a_title_lead_to_nothing(model):
    found, _ = described(model, "i7", "i8")
    assert not found.retrievals[0].features.any()
    assert not len(found.retrievals[0].found.rows)
