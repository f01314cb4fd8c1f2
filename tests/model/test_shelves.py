"""What is popular and new within each category, against plain sorting."""

from __future__ import annotations

import numpy as np
import pytest
from plain_candidates import shelf

from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers import shelves
from streamrec.model.retrievers.category import CategoryRetriever
from streamrec.model.retrievers.shelves import ROWS_PER_RANKING, find_shelf, shelves_of
from streamrec.model.tables.popularity import HALF_LIVES_MS

ROWS = 3_000


@pytest.fixture
def model():
    """Return a model whose items are in a thousand categories or in none, one of the categories being large."""
    rng = np.random.default_rng(1)
    category = rng.integers(0, 1_000, ROWS) * 7_919
    category[rng.random(ROWS) < 0.3] = 7_919
    category[0] = 0
    return ServingModel(
        ids=[""] + [f"i{row}" for row in range(1, ROWS)],
        size=ROWS,
        counts=rng.exponential(size=(ROWS, len(HALF_LIVES_MS))).astype(np.float32),
        first_ms=rng.integers(1, 1 << 40, ROWS),
        category=category,
    )


def test_a_shelf_holds_the_most_popular_items_of_its_category_and_the_newest(model):
    found = CategoryRetriever().shelves(model)
    codes = sorted(set(model.category.tolist()) - {0})
    assert len(codes) > 256, "the hash table has grown"
    for code in codes:
        rows = found.rows[find_shelf(found.keys, found.places, code)]
        assert set(rows[rows > 0].tolist()) == set(shelf(model, code))
    assert find_shelf(found.keys, found.places, 1) == -1
    is_shelved = CategoryRetriever().is_shelved(model)
    assert set(np.flatnonzero(is_shelved).tolist()) == {row for code in codes for row in shelf(model, code)}


def test_the_counts_of_a_category_are_those_of_its_items(model):
    found = CategoryRetriever().shelves(model)
    for code in sorted(set(model.category.tolist()))[1:50]:
        own = model.counts[model.category == code][:, shelves.HALF_LIVES]
        place = find_shelf(found.keys, found.places, code)
        np.testing.assert_allclose(found.totals[place], own.sum(0), rtol=1e-4)
        assert (found.of_row[model.category == code] == place).all()


def test_a_model_without_categories_has_no_shelf():
    found = shelves_of(np.zeros(5, np.int64), np.ones((5, len(HALF_LIVES_MS)), np.float32), np.ones(5, np.int64))
    assert found.rows.shape == (0, 3 * ROWS_PER_RANKING)
    assert find_shelf(found.keys, found.places, 7) == -1
