from __future__ import annotations

import numpy as np
import pytest

from streamrec.model.tables import item_regression
from streamrec.model.tables.item_regression import _RIDGE, HALF_LIFE_MS, KEPT, ItemRegression

NOW = 1_760_000_000_000
ITEMS = 12


@pytest.fixture
def users():
    """Return the items of each user, in order."""
    draw = np.random.default_rng(5)
    popular = 1.0 / np.arange(1, ITEMS + 1)
    return [
        draw.choice(np.arange(1, ITEMS + 1), draw.integers(1, 9), replace=False, p=popular / popular.sum())
        for _ in range(400)
    ]


def taught(users, *, time_ms=NOW):
    regression = ItemRegression()
    for items in users:
        for place, row in enumerate(items.tolist()):
            regression.add(items[:place], row, time_ms)
    return regression


def ease(users):
    """Return the weights of EASE with the whole matrix: from each row to each column."""
    bags = np.zeros((len(users), ITEMS + 1))
    for user, items in enumerate(users):
        bags[user, items] = 1.0
    inverse = np.linalg.inv(bags.T @ bags + _RIDGE * np.eye(ITEMS + 1))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def weights_of(regression, row):
    solved = regression.solved
    return {
        other: weight
        for other, weight in zip(solved.others[row].tolist(), solved.weights[row].tolist(), strict=True)
        if weight
    }


def solve_all(regression, *, now_ms=NOW):
    for _ in range(2):  # the second time every item's own part is known
        regression.solve(np.arange(1, ITEMS + 1), now_ms)


def test_weights_are_those_of_ease_where_all_items_are_neighbours(users):
    regression = taught(users)
    solve_all(regression)
    expected = ease(users)
    assert KEPT >= ITEMS
    for row in range(1, ITEMS + 1):
        positive = {other: weight for other, weight in enumerate(expected[row].tolist()) if weight > 1e-6}
        found = weights_of(regression, row)
        assert found == pytest.approx(positive, rel=1e-3, abs=1e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_users_count_less_as_time_passes(users):
    regression, faded = taught(users), taught(users)
    solve_all(regression)
    solve_all(faded, now_ms=NOW + int(3 * HALF_LIFE_MS))
    assert sum(weights_of(faded, 1).values()) < sum(weights_of(regression, 1).values())


def test_the_reference_time_moves_without_changing_the_weights(users, monkeypatch):
    regression, moved = taught(users), ItemRegression()
    monkeypatch.setattr(item_regression, "_MAX_DOUBLINGS", -1.0)  # it moves with every event
    moved = taught(users)
    for each in (regression, moved):
        solve_all(each)
    assert moved.reference_ms == NOW
    assert weights_of(moved, 2) == pytest.approx(weights_of(regression, 2), rel=1e-3)


def test_a_row_that_is_given_away_is_on_no_list(users):
    regression = taught(users)
    solve_all(regression)
    holders = {row for row in range(1, ITEMS + 1) if 3 in weights_of(regression, row)}
    assert holders <= set(regression.clear(3))
    assert weights_of(regression, 3) == {}
    assert all(3 not in weights_of(regression, row) for row in range(1, ITEMS + 1))
    solve_all(regression)
    assert all(3 not in weights_of(regression, row) for row in range(1, ITEMS + 1))


def test_a_restored_regression_goes_on(users):
    regression, restored = taught(users[:200]), ItemRegression()
    solve_all(regression)
    restored.load(regression.state())
    for each in (regression, restored):
        for items in users[200:]:
            for place, row in enumerate(items.tolist()):
                each.add(items[:place], row, NOW)
        solve_all(each)
    assert all(
        weights_of(restored, row) == pytest.approx(weights_of(regression, row), rel=1e-5) for row in range(1, ITEMS + 1)
    )
