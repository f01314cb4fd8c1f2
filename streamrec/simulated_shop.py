"""A seeded simulated shop: users with drifting tastes, items that appear and disappear, clicks and purchases.

Some events of a visit are clicks on the shown list; the others are sampled independently of it, from separate random
numbers. These are the same for any list, except for items that the user has clicked in a list before and does not click
again. So lists can be scored by them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import NamedTuple

DAY_MS = 86_400_000
CATEGORIES = 24
NEW_ITEMS_A_DAY = 20
ITEM_LIFE_DAYS = (4.0, 30.0)
COMPANIONS = 3
"""Number of related items in its category; the next click after an item is mostly on one of these."""

LOOKS_AT_LIST = 0.5
"""Share of visits in which the user looks at the list."""

LOOKED_AT_ITEMS = 10
PURCHASE_SHARE = 0.12
DRIFT_SHARE = 0.08
"""Share of visits before which a new category replaces the oldest one in a user's taste."""

STAYS_SHARE = 0.6
"""Share of clicks after the first one of a visit in the same category; the others are sampled from the taste."""

MIN_LOOKS, MAX_LOOKS = 2, 5
"""Number of clicks in a visit independent of the list."""

_TASTE_WEIGHTS = (0.6, 0.3, 0.1)


class ShopItem(NamedTuple):
    """An item of the shop."""

    item_id: str
    category: str
    price: float
    born_ms: int
    dies_ms: int
    appeal: float


class ShopEvent(NamedTuple):
    """An event of a user."""

    user_id: str
    item: ShopItem
    event_time_ms: int
    purchase: bool
    organic: bool
    """Whether it is independent of the list."""
    position: int | None
    """Position in the clicked list."""


class Visit(NamedTuple):
    """A visit of a user to the shop."""

    number: int
    user_id: str
    time_ms: int
    appeared: Sequence[ShopItem]
    """Items added since the previous visit."""
    died: Sequence[ShopItem]
    """Items removed since then."""


@dataclass(slots=True)
class _User:
    taste: list[int]
    """Categories, strongest first."""
    looked_at: set[str] = field(default_factory=set)
    """Items clicked independently of lists; no larger than the user's events."""
    followed: set[str] = field(default_factory=set)
    """Items clicked in lists."""


class SimulatedShop:
    """Samples visits and their events, reproducibly by seed.

    Parameters
    ----------
    seed
        Random seed.
    users
        Final number of users.
    days
        Length of the simulation.
    start_ms
        Start time, Unix milliseconds.
    """

    def __init__(self, seed: int, *, users: int = 1_200, days: int = 35, start_ms: int = 1_735_689_600_000) -> None:
        self._seed = seed
        self._days = days
        self._start_ms = start_ms
        rng = Random(seed)  # noqa: S311  # a simulation, no secret
        self.items = _draw_items(rng, days, start_ms)
        self._by_category: list[list[ShopItem]] = [[] for _ in range(CATEGORIES)]
        for item in self.items:
            self._by_category[int(item.category[1:])].append(item)
        self._users = [_User(rng.sample(range(CATEGORIES), len(_TASTE_WEIGHTS))) for _ in range(users)]
        self._arrivals = _draw_arrivals(rng, users, days, start_ms)
        self._known = {item.item_id: item for item in self.items}

    def __len__(self) -> int:
        """Return the number of visits."""
        return len(self._arrivals)

    def visits(self) -> Iterator[Visit]:
        """Return all visits in chronological order."""
        births = sorted(self.items, key=lambda item: item.born_ms)
        deaths = sorted(self.items, key=lambda item: item.dies_ms)
        born = dead = 0
        for number, (time_ms, user) in enumerate(self._arrivals):
            now_born = bisect_right(births, time_ms, key=lambda item: item.born_ms)
            now_dead = bisect_right(deaths, time_ms, key=lambda item: item.dies_ms)
            yield Visit(number, f"u{user}", time_ms, births[born:now_born], deaths[dead:now_dead])
            born, dead = now_born, now_dead

    def answer(self, visit: Visit, shown: Sequence[str]) -> list[ShopEvent]:
        """Return the user's events in a visit, in chronological order; call once per visit, in order.

        Parameters
        ----------
        visit
            The visit.
        shown
            Item ids of the user's list, top first; may be empty.
        """
        user = self._users[int(visit.user_id[1:])]
        events = self._wander(visit, user)
        followed = self._follow(visit, user, shown)
        user.followed.update(event.item.item_id for event in followed)
        return sorted(events + followed, key=lambda event: event.event_time_ms)

    def best_list(self, visit: Visit, k: int) -> list[str]:
        """Return the oracle's list for a visit whose events are not sampled yet, top first.

        The oracle knows everything but the random outcomes: tastes, the appeal of items, related items, and the user's
        clicks.

        Returns
        -------
        list of str
            Ids of the `k` items that the user will most likely click.
        """
        user = self._users[int(visit.user_id[1:])]
        tastes = dict(zip(user.taste, _TASTE_WEIGHTS, strict=True))
        offered = {category: self._offered(user, category, visit.time_ms) for category in tastes}
        first = {category: _likely(items) for category, items in offered.items()}
        after = {
            item.item_id: _companions(items, place) or first[category]
            for category, items in offered.items()
            for place, item in enumerate(items)
        }
        now = {category: _scaled(likely, tastes[category]) for category, likely in first.items()}
        looks = {item_id: share for likely in now.values() for item_id, share in likely.items()}
        for number in range(2, MAX_LOOKS + 1):
            come_from = {category: sum(likely.values()) for category, likely in now.items()}
            later = {}
            for category, weight in tastes.items():
                drawn = (1.0 - STAYS_SHARE) * weight
                later[category] = _scaled(first[category], drawn * (sum(come_from.values()) - come_from[category]))
                for last_id, share in now[category].items():
                    for item_id, likely in after[last_id].items():
                        later[category][item_id] += share * (STAYS_SHARE + drawn) * likely
            now = later
            # the minimum number of clicks is certain, each later one is less likely
            goes_on = min(1.0, (MAX_LOOKS + 1 - number) / (MAX_LOOKS + 1 - MIN_LOOKS))
            for likely_now in now.values():
                for item_id, share in likely_now.items():
                    looks[item_id] += goes_on * share
        new = [item_id for item_id in looks if item_id not in user.followed]
        return sorted(new, key=lambda item_id: -looks[item_id])[:k]

    def _offered(self, user: _User, category: int, now_ms: int) -> list[ShopItem]:
        """Return the current items of a category that are new to a user, oldest first."""
        return [
            item
            for item in self._by_category[category]
            if item.born_ms <= now_ms < item.dies_ms and item.item_id not in user.looked_at
        ]

    def _wander(self, visit: Visit, user: _User) -> list[ShopEvent]:
        """Sample the user's events independent of the list."""
        rng = Random(f"{self._seed} {visit.number} organic")  # noqa: S311  # a simulation, no secret
        if rng.random() < DRIFT_SHARE:
            fresh = rng.choice([category for category in range(CATEGORIES) if category not in user.taste])
            user.taste = [fresh, *user.taste[:-1]]
        events: list[ShopEvent] = []
        item: ShopItem | None = None
        time_ms = visit.time_ms
        for _ in range(rng.randint(MIN_LOOKS, MAX_LOOKS)):
            item = self._next_item(rng, user, item, visit.time_ms)
            if item is None:
                break
            user.looked_at.add(item.item_id)
            time_ms += rng.randint(5_000, 60_000)
            looks = _look_and_buy(rng, visit.user_id, item, time_ms, position=None)
            if item.item_id not in user.followed:  # items clicked in a list are not clicked again
                events += looks
        return events

    def _next_item(self, rng: Random, user: _User, last: ShopItem | None, now_ms: int) -> ShopItem | None:
        category = rng.choices(user.taste, _TASTE_WEIGHTS)[0]
        stays = last is not None and rng.random() < STAYS_SHARE
        alive = self._offered(user, int(last.category[1:]) if last and stays else category, now_ms)
        if not alive:
            return None
        if last is not None and alive[0].category == last.category:
            # an item is related to newer ones only: older ones are outdated
            after = [item for item in alive if item.born_ms > last.born_ms][:COMPANIONS]
            if after:
                return rng.choice(after)
        return rng.choices(alive, cum_weights=list(accumulate(item.appeal for item in alive)))[0]

    def _follow(self, visit: Visit, user: _User, shown: Sequence[str]) -> list[ShopEvent]:
        """Sample clicks on the list: the first item of a category in the user's taste may be clicked."""
        rng = Random(f"{self._seed} {visit.number} list")  # noqa: S311  # a simulation, no secret
        if rng.random() >= LOOKS_AT_LIST:
            return []
        for position, item_id in enumerate(shown[:LOOKED_AT_ITEMS]):
            item = self._known.get(item_id)
            if item is None or not item.born_ms <= visit.time_ms < item.dies_ms:
                continue
            if int(item.category[1:]) in user.taste and rng.random() < 0.5:
                return _look_and_buy(rng, visit.user_id, item, visit.time_ms + 2_000, position=position)
        return []


def _likely(items: Sequence[ShopItem]) -> dict[str, float]:
    """Return the click probability of each item of a category, by id."""
    appeal = sum(item.appeal for item in items)
    return {item.item_id: item.appeal / appeal for item in items}


def _companions(items: Sequence[ShopItem], place: int) -> dict[str, float]:
    """Return the same after a click on the item at this index, within the category."""
    companions = items[place + 1 : place + 1 + COMPANIONS]
    return {item.item_id: 1.0 / len(companions) for item in companions}


def _scaled(likely: dict[str, float], factor: float) -> dict[str, float]:
    return {item_id: factor * share for item_id, share in likely.items()}


def _draw_items(rng: Random, days: int, start_ms: int) -> list[ShopItem]:
    """Sample all items; those of the first days exist from the start."""
    longest = int(ITEM_LIFE_DAYS[1])
    items: list[ShopItem] = []
    for day in range(-longest, days):
        for _ in range(NEW_ITEMS_A_DAY):
            born_ms = start_ms + day * DAY_MS + rng.randrange(DAY_MS)
            dies_ms = born_ms + int(rng.uniform(*ITEM_LIFE_DAYS) * DAY_MS)
            category = f"c{rng.randrange(CATEGORIES)}"
            price = round(rng.lognormvariate(3.0, 0.8), 2)
            items.append(ShopItem(f"i{len(items)}", category, price, born_ms, dies_ms, rng.paretovariate(1.2)))
    items.sort(key=lambda item: item.born_ms)
    return [item for item in items if item.dies_ms > start_ms]


def _draw_arrivals(rng: Random, users: int, days: int, start_ms: int) -> list[tuple[int, int]]:
    """Sample visits: each user joins on some day and returns at increasing intervals."""
    arrivals: list[tuple[int, int]] = []
    for user in range(users):
        first_day = int(days * 0.9 * rng.random() ** 1.5)
        eagerness = rng.betavariate(1.2, 3.0)
        arrivals += [
            (start_ms + day * DAY_MS + rng.randrange(DAY_MS), user)
            for day in range(first_day, days)
            if day == first_day or rng.random() < eagerness * 0.97 ** (day - first_day)
        ]
    return sorted(arrivals)


def _look_and_buy(rng: Random, user_id: str, item: ShopItem, time_ms: int, *, position: int | None) -> list[ShopEvent]:
    organic = position is None
    events = [ShopEvent(user_id, item, time_ms, purchase=False, organic=organic, position=position)]
    if rng.random() < PURCHASE_SHARE:
        events.append(ShopEvent(user_id, item, time_ms + 3_000, purchase=True, organic=organic, position=position))
    return events
