"""A seeded shop without customers: users with drifting tastes, items that appear and die, clicks and purchases.

Of a visit, some events follow the list that the user is shown, and the others are drawn without looking at it, from
random numbers of their own: those are the same whatever any list holds, but for items that the user has followed before
and does not look at again. So a list can be judged by them.
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
"""Who looks at an item looks next at one of so many others of its category, more often than not."""

LOOKS_AT_LIST = 0.5
"""Share of visits in which the user looks at the list at all."""

LOOKED_AT_ITEMS = 10
PURCHASE_SHARE = 0.12
DRIFT_SHARE = 0.08
"""Share of visits before which a new category enters a user's taste and the oldest one leaves it."""

STAYS_SHARE = 0.6
"""Share of looks after the first one of a visit that stay in the category; the others are drawn from the taste."""

MIN_LOOKS, MAX_LOOKS = 2, 5
"""Items that a user looks at in a visit of their own accord."""

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
    """What a user did."""

    user_id: str
    item: ShopItem
    event_time_ms: int
    purchase: bool
    organic: bool
    """Whether it was drawn without looking at the list."""
    position: int | None
    """Place in the list of what was followed."""


class Visit(NamedTuple):
    """A user comes to the shop."""

    number: int
    user_id: str
    time_ms: int
    appeared: Sequence[ShopItem]
    """Items that came since the visit before."""
    died: Sequence[ShopItem]
    """Items that went since then."""


@dataclass(slots=True)
class _User:
    taste: list[int]
    """Categories, the strongest first."""
    looked_at: set[str] = field(default_factory=set)
    """What was looked at without a list; no larger than the user's events."""
    followed: set[str] = field(default_factory=set)
    """What was looked at because of a list."""


class SimulatedShop:
    """Draws visits and what happens in them; the same seed draws the same shop.

    Parameters
    ----------
    seed
        Of all random numbers.
    users
        How many users there are in the end.
    days
        How long the shop is watched.
    start_ms
        Its first instant, Unix milliseconds.
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
        """Return all visits in the order of time."""
        births = sorted(self.items, key=lambda item: item.born_ms)
        deaths = sorted(self.items, key=lambda item: item.dies_ms)
        born = dead = 0
        for number, (time_ms, user) in enumerate(self._arrivals):
            now_born = bisect_right(births, time_ms, key=lambda item: item.born_ms)
            now_dead = bisect_right(deaths, time_ms, key=lambda item: item.dies_ms)
            yield Visit(number, f"u{user}", time_ms, births[born:now_born], deaths[dead:now_dead])
            born, dead = now_born, now_dead

    def answer(self, visit: Visit, shown: Sequence[str]) -> list[ShopEvent]:
        """Return what the user does in a visit, in the order of time; each visit is answered once, in their order.

        Parameters
        ----------
        visit
            The visit.
        shown
            Item ids of the user's list, the top first; may be empty.
        """
        user = self._users[int(visit.user_id[1:])]
        events = self._wander(visit, user)
        followed = self._follow(visit, user, shown)
        user.followed.update(event.item.item_id for event in followed)
        return sorted(events + followed, key=lambda event: event.event_time_ms)

    def best_list(self, visit: Visit, k: int) -> list[str]:
        """Return the best list that anybody could show in a visit that is not answered yet, the top first.

        It is made by whoever knows all about the shop and the user but what chance will bring: the tastes, how
        appealing each item is, what goes with what, and what the user has looked at.

        Returns
        -------
        list of str
            The ids of the `k` items that the user will most likely look at.
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
            # the fewest looks are certain, each later one is less likely
            goes_on = min(1.0, (MAX_LOOKS + 1 - number) / (MAX_LOOKS + 1 - MIN_LOOKS))
            for likely_now in now.values():
                for item_id, share in likely_now.items():
                    looks[item_id] += goes_on * share
        new = [item_id for item_id in looks if item_id not in user.followed]
        return sorted(new, key=lambda item_id: -looks[item_id])[:k]

    def _offered(self, user: _User, category: int, now_ms: int) -> list[ShopItem]:
        """Return the items of a category that there are now and that are new to a user, oldest first."""
        return [
            item
            for item in self._by_category[category]
            if item.born_ms <= now_ms < item.dies_ms and item.item_id not in user.looked_at
        ]

    def _wander(self, visit: Visit, user: _User) -> list[ShopEvent]:
        """Draw what the user does without looking at the list."""
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
            if item.item_id not in user.followed:  # nobody looks again at what a list has shown before
                events += looks
        return events

    def _next_item(self, rng: Random, user: _User, last: ShopItem | None, now_ms: int) -> ShopItem | None:
        category = rng.choices(user.taste, _TASTE_WEIGHTS)[0]
        stays = last is not None and rng.random() < STAYS_SHARE
        alive = self._offered(user, int(last.category[1:]) if last and stays else category, now_ms)
        if not alive:
            return None
        if last is not None and alive[0].category == last.category:
            # the next ones by birth go with an item: what was bought before it came is out of date
            after = [item for item in alive if item.born_ms > last.born_ms][:COMPANIONS]
            if after:
                return rng.choice(after)
        return rng.choices(alive, cum_weights=list(accumulate(item.appeal for item in alive)))[0]

    def _follow(self, visit: Visit, user: _User, shown: Sequence[str]) -> list[ShopEvent]:
        """Draw what the user does because of the list: the first item of a category to the user's taste is tempting."""
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
    """Return how likely a user who turns to a category looks at each of its items, by id."""
    appeal = sum(item.appeal for item in items)
    return {item.item_id: item.appeal / appeal for item in items}


def _companions(items: Sequence[ShopItem], place: int) -> dict[str, float]:
    """Return the same of a user who has just looked at the item at this place and stays in the category."""
    companions = items[place + 1 : place + 1 + COMPANIONS]
    return {item.item_id: 1.0 / len(companions) for item in companions}


def _scaled(likely: dict[str, float], factor: float) -> dict[str, float]:
    return {item_id: factor * share for item_id, share in likely.items()}


def _draw_items(rng: Random, days: int, start_ms: int) -> list[ShopItem]:
    """Draw all items that there ever are; those of the first days were there before."""
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
    """Draw who comes when: a user joins on some day and comes back ever less often."""
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
