"""Seen items that lists hide although their events have left the sequence."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

SEEN_ITEMS = 200
"""Maximum number of hidden items of events older than the sequence: purchases first, then the latest clicks."""


@dataclass(slots=True)
class Seen:
    """Items of events that left the sequence, at most `SEEN_ITEMS`, for lists that hide seen items.

    Each item is ranked by its strongest event: purchases before clicks, later before earlier ones. The lowest-ranked
    items are evicted, by value and not by arrival. So the result is a function of the set of events: an evicted item
    ranks below all that stay, and returns only with a higher-ranked event.

    Parameters
    ----------
    purchased, clicked
        Time of the latest purchase by item id, and of the latest click of items never purchased, Unix milliseconds.

    Examples
    --------
    >>> seen = Seen()
    >>> seen.add("bought", 1, is_purchase=True)
    >>> for n in range(SEEN_ITEMS):
    ...     seen.add(f"clicked-{n}", 2 + n, is_purchase=False)
    >>> "bought" in seen.purchased, "clicked-0" in seen.clicked, len(seen.items())
    (True, False, 200)
    """

    purchased: dict[str, int] = field(default_factory=dict)
    clicked: dict[str, int] = field(default_factory=dict)

    def add(self, item_id: str, time_ms: int, *, is_purchase: bool) -> None:
        """Remember the item of an event that left the sequence."""
        if is_purchase:
            self.clicked.pop(item_id, None)
            self.purchased[item_id] = max(time_ms, self.purchased.get(item_id, time_ms))
        elif item_id not in self.purchased:
            self.clicked[item_id] = max(time_ms, self.clicked.get(item_id, time_ms))
        if len(self.purchased) + len(self.clicked) > SEEN_ITEMS:
            _drop_oldest(self.clicked or self.purchased)

    def items(self, *, but: AbstractSet[str] = frozenset()) -> list[str]:
        """Return the items sorted by id, except the given ones."""
        return sorted(item_id for item_id in (*self.purchased, *self.clicked) if item_id not in but)


def keep_latest(times_ms: dict[str, int], item_id: str, time_ms: int, *, most: int) -> None:
    """Remember the latest time of an item, and of at most this many items.

    Examples
    --------
    >>> times_ms = {"a": 1, "b": 2}
    >>> keep_latest(times_ms, "c", 3, most=2)
    >>> times_ms
    {'b': 2, 'c': 3}
    """
    times_ms[item_id] = max(time_ms, times_ms.get(item_id, time_ms))
    if len(times_ms) > most:
        _drop_oldest(times_ms)


def _drop_oldest(times_ms: dict[str, int]) -> None:
    oldest_ms = min(times_ms.values())
    del times_ms[min(item_id for item_id, each_ms in times_ms.items() if each_ms == oldest_ms)]
