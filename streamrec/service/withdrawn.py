"""Withdrawn items with a digest, so that two copies can be compared without exchanging all items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

MAX_WITHDRAWN = 1_000_000
"""Maximum number of items; beyond it the first one is dropped."""


class WithdrawnChange(NamedTuple):
    """A change of withdrawn items.

    Attributes
    ----------
    withdrawn
        Item → when it was withdrawn, Unix milliseconds.
    available
        Items that are available again.
    before, after
        The digests of all withdrawn items.
    """

    withdrawn: Mapping[str, int]
    available: Sequence[str]
    before: str
    after: str

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.withdrawn or self.available)


class Withdrawn:
    """Stores withdrawn items, in the order of their first withdrawal.

    Examples
    --------
    >>> one, other = Withdrawn(), Withdrawn()
    >>> _ = one.change({"a": 1, "b": 2}, []), other.change({"b": 2, "c": 3}, []), other.change({"a": 1}, ["c"])
    >>> one.digest == other.digest, dict(one.items)
    (True, {'a': 1, 'b': 2})
    """

    def __init__(self) -> None:
        self._items: dict[str, int] = {}
        self._sum = 0

    @property
    def items(self) -> Mapping[str, int]:
        """Item → when it was withdrawn, Unix milliseconds."""
        return self._items

    @property
    def digest(self) -> str:
        """Identifies the withdrawn items and their times, independent of order."""
        return f"{self._sum:032x}"

    def change(self, withdrawn: Mapping[str, int], available: Sequence[str]) -> WithdrawnChange:
        """Record withdrawn items and those available again, and return the change."""
        before = self.digest
        for item_id, at_ms in withdrawn.items():
            self._forget(item_id, is_replaced=True)
            self._items[item_id] = at_ms
            self._sum ^= _hashed(item_id, at_ms)
        for item_id in available:
            self._forget(item_id)
        while len(self._items) > MAX_WITHDRAWN:
            self._forget(next(iter(self._items)))
        return WithdrawnChange(withdrawn, available, before, self.digest)

    def _forget(self, item_id: str, *, is_replaced: bool = False) -> None:
        at_ms = self._items.get(item_id)
        if at_ms is None:
            return
        self._sum ^= _hashed(item_id, at_ms)
        if not is_replaced:  # a new time keeps the position
            del self._items[item_id]


def _hashed(item_id: str, at_ms: int) -> int:
    return int.from_bytes(blake2b(f"{at_ms}:{item_id}".encode(), digest_size=16).digest(), "big")
