"""Baselines against plain computations on a few events."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streamrec.evaluation.baselines.baseline import UNKNOWN, place_of
from streamrec.evaluation.baselines.categories import PopularInCategories
from streamrec.evaluation.baselines.factorization import MatrixFactorization
from streamrec.evaluation.baselines.neighbours import SessionNeighbours
from streamrec.evaluation.baselines.popularity import RecentPopularity

SECOND_MS = 1_000
HOUR_MS = 3_600_000


CATEGORY_OF = {f"i{n}": f"c{n % 4}" for n in range(30)}


def new_baselines(*, hide_seen):
    return [
        PopularInCategories(hide_seen=hide_seen, sequence_length=5, category_of=CATEGORY_OF),
        RecentPopularity(hide_seen=hide_seen, sequence_length=5),
        SessionNeighbours(hide_seen=hide_seen, sequence_length=5),
        MatrixFactorization(hide_seen=hide_seen, sequence_length=5, seed=0),
    ]


def learn(baseline, events, *, start_ms=0):
    for number, (user_id, item_id) in enumerate(events):
        baseline.learn_one(user_id, item_id, start_ms + number * SECOND_MS)


def test_a_place_is_the_number_of_items_above_that_may_be_listed():
    scores = np.array([3.0, 5.0, 3.0, 1.0])

    assert [place_of(row, scores, np.zeros(0, np.int64)) for row in range(4)] == [1, 0, 2, 3]
    assert place_of(2, scores, np.array([0, 1])) == 0
    assert place_of(3, scores, np.array([1])) == 2


@pytest.mark.parametrize("place", range(4))
def test_each_place_is_taken_once(place):
    """The ranks of all items of a user are 0, 1, 2, ... by every ranking."""
    draw = random.Random(0)
    baseline = new_baselines(hide_seen=False)[place]
    events = [(f"u{draw.randrange(6)}", f"i{draw.randrange(30)}") for _ in range(300)]
    learn(baseline, events)
    items = sorted({item_id for _, item_id in events})

    for user_id in ("u1", "u4"):
        ranks = np.array([baseline.ranks(user_id, item_id) for item_id in items])
        assert ranks.shape[1] == len(baseline.names)
        assert (np.sort(ranks, axis=0) == np.arange(len(items))[:, None]).all()


@pytest.mark.parametrize("place", range(4))
def test_seen_items_are_hidden_by_all_or_by_none(place):
    events = [("u1", "a"), ("u1", "b"), ("u2", "a"), ("u2", "c"), ("u2", "b")]
    shows, hides = new_baselines(hide_seen=False)[place], new_baselines(hide_seen=True)[place]
    learn(shows, events)
    learn(hides, events)

    assert (shows.ranks("u1", "a") < 3).all()
    assert (hides.ranks("u1", "a") == UNKNOWN).all()
    assert (hides.ranks("u1", "c") == 0).all()


@pytest.mark.parametrize("place", range(4))
def test_an_item_that_nobody_had_is_in_no_list(place):
    baseline = new_baselines(hide_seen=False)[place]
    learn(baseline, [("u1", "a"), ("u1", "b")])

    assert (baseline.ranks("u1", "z") == UNKNOWN).all()


def test_what_is_popular_in_the_users_categories_comes_first_and_what_is_withdrawn_last():
    category_of = {"tent": "camping", "stove": "camping", "lamp": "camping", "novel": "books"}
    baseline = PopularInCategories(hide_seen=True, sequence_length=50, category_of=category_of)
    buyers = [(f"n{number}", "novel") for number in range(20)] + [("s1", "stove"), ("s2", "stove"), ("l1", "lamp")]
    learn(baseline, [*buyers, ("u1", "tent")])

    assert [baseline.ranks("u1", item)[0] for item in ("stove", "lamp", "novel")] == [0, 1, 2]
    assert baseline.ranks("nobody", "novel").tolist() == [0]

    baseline.withdraw("stove")
    baseline.withdraw("never seen")
    assert baseline.ranks("u1", "lamp").tolist() == [0]


def test_neighbours_know_what_came_with_the_users_item():
    neighbours = SessionNeighbours(hide_seen=True, sequence_length=5)
    popular = [(f"p{number}", "popular") for number in range(20)]
    learn(neighbours, [*popular, ("u1", "tent"), ("u1", "stove"), ("u2", "pan"), ("u2", "lid"), ("u3", "tent")])

    assert neighbours.ranks("u3", "stove").tolist() == [0, 0]
    assert neighbours.ranks("u3", "popular").tolist() == [1, 1]
    assert neighbours.ranks("nobody", "popular").tolist() == [0, 0]


def test_newer_sessions_count_more():
    neighbours = SessionNeighbours(hide_seen=True, sequence_length=5)
    learn(neighbours, [("u1", "tent"), ("u1", "stove")])
    learn(neighbours, [("u2", "tent"), ("u2", "lamp")], start_ms=240 * HOUR_MS)
    learn(neighbours, [("u3", "tent")], start_ms=241 * HOUR_MS)

    assert neighbours.ranks("u3", "lamp").tolist() == [0, 0]
    assert neighbours.ranks("u3", "stove").tolist() == [1, 1]


def test_an_item_near_the_one_in_common_counts_more():
    neighbours = SessionNeighbours(hide_seen=True, sequence_length=9)
    learn(neighbours, [("u1", item) for item in ("tent", "stove", "pan", "lid", "lamp")] + [("u2", "tent")])

    ranks = [neighbours.ranks("u2", item)[0] for item in ("stove", "pan", "lid", "lamp")]
    assert ranks == [0, 1, 2, 3]


def test_a_user_is_no_neighbour_of_the_session_that_goes_on_but_of_an_earlier_one():
    neighbours = SessionNeighbours(hide_seen=False, sequence_length=9)
    learn(neighbours, [("u2", "a"), ("u1", "tent"), ("u1", "stove")])
    learn(neighbours, [("u1", "tent")], start_ms=2 * HOUR_MS)

    assert neighbours.ranks("u1", "stove").tolist() == [0, 0]
    assert neighbours.ranks("u2", "stove")[0] > 0


def test_factors_of_those_who_meet_come_together():
    factors = MatrixFactorization(hide_seen=False, sequence_length=5, seed=0)
    events = [(f"u{user}", f"{user % 2}-{item}") for user in range(8) for item in range(6)]
    draw = random.Random(0)
    for _ in range(30):
        draw.shuffle(events)
        learn(factors, events)

    assert max(factors.ranks("u0", f"0-{item}")[0] for item in range(6)) < 6
    assert max(factors.ranks("u1", f"1-{item}")[0] for item in range(6)) < 6
    assert factors.ranks("nobody", "0-0").tolist() == [UNKNOWN]
