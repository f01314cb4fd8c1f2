"""The simulated shop."""

from __future__ import annotations

from streamrec.simulated_shop import SimulatedShop


def play(shop, shown=lambda _visit: []):
    return [event for visit in shop.visits() for event in shop.answer(visit, shown(visit))]


def small_shop(seed=1):
    return SimulatedShop(seed, users=50, days=10)


def test_the_same_seed_draws_the_same_shop():
    assert play(small_shop()) == play(small_shop())
    assert play(small_shop()) != play(small_shop(seed=2))


def test_what_is_drawn_without_the_list_is_the_same_whatever_the_list_is():
    shop = small_shop()
    every_item = [item.item_id for item in shop.items]
    with_lists = play(shop, lambda visit: every_item[visit.number % 50 :])
    followed = [event for event in with_lists if not event.organic]

    assert [event for event in with_lists if event.organic] == play(small_shop())
    assert followed
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
