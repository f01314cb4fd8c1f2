"""What a user has had and lists hide, although the events have left the sequence."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

SEEN_ITEMS = 200
"""Items of events older than the sequence that lists can still hide: purchases first, then the latest clicks."""


@dataclass(slots=True)
class Seen:
    """Items of events that left the sequence, at most `SEEN_ITEMS`, for lists that hide what a user has had.

    Each item stands for its strongest event: a purchase before any click, then the latest one. The weakest items are
    evicted, by value and not by arrival. What remains is a function of the set of events: an evicted item was weaker
    than all that stayed, and comes back only with a stronger event.

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
            weakest = self.clicked or self.purchased
            oldest_ms = min(weakest.values())
            del weakest[min(each for each, each_ms in weakest.items() if each_ms == oldest_ms)]

    def items(self, *, but: AbstractSet[str] = frozenset()) -> list[str]:
        """Return the items in order of their ids, but for some."""
        return sorted(item_id for item_id in (*self.purchased, *self.clicked) if item_id not in but)
