"""What `items` says of items, as far as the trainer needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streamrec.contracts.incoming import Item

MAX_CATALOGUE = 1_000_000
"""Items that are remembered; beyond it the one that came first is forgotten."""


class Catalogue:
    """Remembers items, and which known ones it spoke of since somebody listened; one thread writes, another listens."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._told: dict[str, None] = {}

    def put(self, item: Item, *, is_known: bool) -> None:
        """Learn what the catalogue says of an item, which whoever listens knows already or not."""
        self._items[item.item_id] = item
        if len(self._items) > MAX_CATALOGUE:
            del self._items[next(iter(self._items))]
        if is_known:
            self._told[item.item_id] = None

    def delete(self, item_id: str) -> None:
        """Forget what the catalogue says of an item."""
        self._items.pop(item_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._items = {}  # what was told of is passed over where it is not here

    def get(self, item_id: str) -> Item | None:
        """Return what the catalogue says of an item."""
        return self._items.get(item_id)

    def heard(self) -> Iterator[Item]:
        """Return what was said of known items since the last call."""
        while self._told:
            item_id, _ = self._told.popitem()
            item = self._items.get(item_id)
            if item is not None:
                yield item

    def tell_again(self, is_known: Callable[[str], object]) -> None:
        """Say all that is known of some items once more."""
        # list() is atomic: the other thread may be adding
        self._told.update((item_id, None) for item_id in list(self._items) if is_known(item_id))
