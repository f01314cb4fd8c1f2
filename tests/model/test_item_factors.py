from __future__ import annotations

import numpy as np
import pytest
from themed_lessons import ITEMS, ROWS, THEMES, best, followed, lessons, rows_of, users_of

from streamrec.model.retrievers.factors import FactorsRetriever
from streamrec.model.tables import item_factors
from streamrec.model.tables.item_factors import DIM, LARGEST, LOOK_BACK, ItemFactors, folded, inverse


def taught(number=10):
    teacher = FactorsRetriever.teacher(0)
    for lesson in lessons(number):
        teacher.learn(lesson)
    return teacher


def gram(factors):
    return factors.T.astype(np.float64) @ factors


def test_items_of_a_theme_are_found_for_a_user_of_that_theme():
    retriever = followed(FactorsRetriever(), taught())
    for theme in range(THEMES):
        of_theme = rows_of(theme).tolist()
        assert np.isin(best(retriever, of_theme[:3], 10), of_theme).mean() >= 0.9


def test_a_user_is_the_ridge_regression_on_the_factors_of_the_own_items():
    draw = np.random.default_rng(0)
    factors = draw.standard_normal((50, DIM)).astype(np.float32)
    factors[0] = 0.0
    own = np.zeros((3, LOOK_BACK), np.int64)
    own[0, :3], own[1] = [4, 9, 2], np.arange(10, 10 + LOOK_BACK)

    users = folded(factors[own], own, inverse(gram(factors)))

    for user, rows in zip(users[:2], ([4, 9, 2], own[1]), strict=True):
        weights = item_factors._STEP_DECAY ** np.arange(len(rows))
        theirs = factors[rows].astype(np.float64)
        left = item_factors._UNOBSERVED * gram(factors) + item_factors._RIDGE * np.eye(DIM)
        expected = np.linalg.solve(left + (theirs.T * weights) @ theirs, theirs.T @ weights)
        assert user == pytest.approx(expected, abs=1e-5)
    assert not users[2].any()


def test_an_event_moves_the_factor_of_its_item_only_and_less_the_more_events_there_were():
    factors = ItemFactors(0)
    own = np.zeros((1, LOOK_BACK), np.int64)
    factors.learn(np.repeat(own, 3, axis=0), np.array([1, 2, 3]))
    own[0, 0] = 1
    lengths = []
    for _ in range(20):
        before = factors.factors.copy()
        factors.learn(own, np.array([2]))
        moved = np.linalg.norm(factors.factors - before, axis=1)
        assert np.flatnonzero(moved).tolist() == [2]
        lengths.append(moved[2])
    assert lengths[-1] < 0.2 * lengths[0]


def test_factors_are_bounded_and_so_is_memory():
    draw, factors = np.random.default_rng(0), ItemFactors(0)
    for _ in range(50):
        factors.learn(draw.integers(1, 3, (100, LOOK_BACK)), draw.integers(1, 4, 100))
    assert np.linalg.norm(factors.factors, axis=1).max() <= 1.001 * LARGEST
    # a factor and one number per row, and the means over items and users
    sizes = {name: value.nbytes for name, value in factors.state().items()}
    assert sum(sizes.values()) == 1024 * (4 * DIM + 4) + 2 * 8 * DIM**2 + 8


def test_a_row_that_is_given_away_leaves_nothing_behind():
    teacher = taught()
    before = followed(FactorsRetriever(), teacher)
    teacher.forget(3)
    after = followed(before, teacher)

    assert before.published.steps[3]
    assert not after.published.steps[3]
    assert after.gram == pytest.approx(gram(after.published.take(slice(None))), abs=1e-6)
    assert teacher._items._items == pytest.approx(gram(teacher._items.factors), abs=1e-6)


def test_versions_sum_what_they_hold():
    teacher, retriever = FactorsRetriever.teacher(0), FactorsRetriever()
    for lesson in lessons(5):
        teacher.learn(lesson)
        retriever = followed(retriever, teacher)
    assert retriever.gram == pytest.approx(gram(retriever.published.take(slice(None))), abs=1e-6)


def test_only_factors_that_moved_are_sent():
    teacher = taught()
    assert len(teacher.changes(ROWS, everything=False)["factors.rows"]) == ITEMS
    assert len(teacher.changes(ROWS, everything=False)["factors.rows"]) == 0
    assert len(teacher.changes(ROWS, everything=True)["factors.rows"]) == ITEMS


def test_users_of_unknown_items_have_no_candidates():
    retriever = followed(FactorsRetriever(), taught(1))
    found = retriever.find(None, users_of([[], [ROWS + 5_000]]))
    assert found.ends.tolist() == [0, 0]
