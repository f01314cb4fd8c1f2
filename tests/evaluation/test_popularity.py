"""The yardstick against a plain computation."""

from __future__ import annotations

import random

import numpy as np

from streamrec.evaluation.baselines.popularity import HALF_LIVES_MS, RecentPopularity

MINUTE_MS = 60_000


def by_hand(history, now_ms, half_life_ms, seen):
    """Rank items that were not seen by their decayed counts, those that came first before others that are equal."""
    weights = {}
    for _, item_id, time_ms in history:
        weights[item_id] = weights.get(item_id, 0.0) + 2.0 ** ((time_ms - now_ms) / half_life_ms)
    return sorted((item for item in weights if item not in seen), key=lambda item: -weights[item])


def test_hits_are_those_of_a_plain_ranking():
    rng = random.Random(1)
    popularity = RecentPopularity(hide_seen=True, sequence_length=5)
    history = []
    for n in range(600):
        user_id, item_id = f"u{rng.randrange(8)}", f"i{rng.randrange(60)}"
        # days pass, so that the instant that weights refer to has to move
        time_ms = 1_700_000_000_000 + n * 90 * MINUTE_MS + rng.randrange(MINUTE_MS)
        seen = {item for user, item, _ in [entry for entry in history if entry[0] == user_id][-5:]}
        expected = [item_id in by_hand(history, time_ms, half_life_ms, seen)[:10] for half_life_ms in HALF_LIVES_MS]

        assert popularity.would_hit(user_id, item_id, k=10).tolist() == expected
        popularity.learn_one(user_id, item_id, time_ms)
        history.append((user_id, item_id, time_ms))


def test_seen_items_count_where_lists_may_hold_them():
    popularity = RecentPopularity(hide_seen=False, sequence_length=5)
    popularity.learn_one("u1", "i1", MINUTE_MS)

    assert popularity.would_hit("u1", "i1", k=10).all()


def test_many_items_fit():
    popularity = RecentPopularity(hide_seen=True, sequence_length=5)
    for n in range(3_000):
        popularity.learn_one("u1", f"i{n}", n)

    assert np.array_equal(popularity.would_hit("u2", "i2999", k=10), [True] * 4)
    assert not popularity.would_hit("u2", "i0", k=10).any()
