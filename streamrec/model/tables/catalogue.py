"""Item metadata from `items` for the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streamrec.contracts.incoming import Item

MAX_CATALOGUE = 1_000_000
"""Maximum number of items; beyond it the oldest one is dropped."""


class Catalogue:
    """Stores items and tracks updates of known ones; one thread writes, another polls updates."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._told: dict[str, None] = {}

    def put(self, item: Item, *, is_known: bool) -> None:
        """Update an item's metadata; the polling thread may or may not know the item yet."""
        self._items[item.item_id] = item
        if len(self._items) > MAX_CATALOGUE:
            del self._items[next(iter(self._items))]
        if is_known:
            self._told[item.item_id] = None

    def delete(self, item_id: str) -> None:
        """Remove an item's metadata."""
        self._items.pop(item_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._items = {}  # updates of removed items are skipped

    def get(self, item_id: str) -> Item | None:
        """Return an item's metadata."""
        return self._items.get(item_id)

    def heard(self) -> Iterator[Item]:
        """Return updates of known items since the last call."""
        while self._told:
            item_id, _ = self._told.popitem()
            item = self._items.get(item_id)
            if item is not None:
                yield item

    def tell_again(self, is_known: Callable[[str], object]) -> None:
        """Report the metadata of some items as updates again."""
        # list() is atomic: the other thread may be adding
        self._told.update((item_id, None) for item_id in list(self._items) if is_known(item_id))
