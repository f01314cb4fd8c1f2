"""The simulated shop."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from streamrec.simulated_shop import SimulatedShop

VISIT_MS = 600_000
"""No visit takes as long."""


def play(shop, shown=lambda _visit: []):
    return [event for visit in shop.visits() for event in shop.answer(visit, shown(visit))]


def small_shop(seed=1):
    return SimulatedShop(seed, users=50, days=10)


def test_the_same_seed_draws_the_same_shop():
    assert play(small_shop()) == play(small_shop())
    assert play(small_shop()) != play(small_shop(seed=2))


def test_what_is_drawn_without_the_list_is_the_same_whatever_the_list_is_but_for_what_was_followed():
    shop = SimulatedShop(1, users=150, days=20)
    every_item = [item.item_id for item in shop.items]
    without_lists = play(SimulatedShop(1, users=150, days=20))
    with_lists = play(shop, lambda visit: every_item[visit.number % 50 :])
    followed = [event for event in with_lists if not event.organic]
    followed_ms = {}
    for event in followed:
        followed_ms.setdefault((event.user_id, event.item.item_id), event.event_time_ms)
    expected = [
        event
        for event in without_lists
        if event.event_time_ms < followed_ms.get((event.user_id, event.item.item_id), math.inf) + VISIT_MS
    ]

    assert [event for event in with_lists if event.organic] == expected
    assert 0 < len(expected) < len(without_lists)
    assert all(event.item.item_id == every_item[follow_start(event, shop) + event.position] for event in followed)


def follow_start(event, shop):
    """Find where the list of a followed event started: its visit is two or five seconds before it."""
    return next(
        visit.number % 50
        for visit in shop.visits()
        if visit.user_id == event.user_id and 0 <= event.event_time_ms - visit.time_ms <= 5_000
    )


def test_items_appear_and_die_and_nobody_looks_at_a_dead_one():
    shop = SimulatedShop(1, users=200, days=20)
    visits = list(shop.visits())
    born = [item for visit in visits for item in visit.appeared]
    died = [item for visit in visits for item in visit.died]

    assert len({item.item_id for item in born}) == len(born)
    assert died
    assert {item.item_id for item in died} <= {item.item_id for item in born}
    for event in play(SimulatedShop(1, users=200, days=20)):
        assert event.item.born_ms <= event.event_time_ms
        assert event.event_time_ms < event.item.dies_ms + 600_000, "a visit may end after the item's death"


def test_whoever_knows_the_tastes_makes_better_lists_than_popularity_and_lists_nothing_twice():
    shop = small_shop()
    hits = popular_hits = 0
    clicks = Counter()
    looked_at = defaultdict(set)
    for visit in shop.visits():
        best = shop.best_list(visit, 10)
        popular = [item_id for item_id, _ in clicks.most_common() if item_id not in looked_at[visit.user_id]][:10]
        assert len(set(best)) == len(best) == 10
        assert not looked_at[visit.user_id] & set(best)
        events = shop.answer(visit, best)
        hits += sum(event.item.item_id in best for event in events if event.organic)
        popular_hits += sum(event.item.item_id in popular for event in events if event.organic)
        clicks.update(event.item.item_id for event in events)
        looked_at[visit.user_id].update(event.item.item_id for event in events)

    assert hits > 4 * popular_hits > 0


def test_nobody_looks_twice_at_an_item_of_their_own_accord():
    looks = [
        (event.user_id, event.item.item_id) for event in play(small_shop()) if event.organic and not event.purchase
    ]

    assert len(set(looks)) == len(looks)


def test_there_are_purchases_and_users_who_come_back():
    shop = small_shop()
    events = play(shop)

    assert 0 < sum(event.purchase for event in events) < len(events) / 4
    assert len(shop) > 2 * len({event.user_id for event in events})
