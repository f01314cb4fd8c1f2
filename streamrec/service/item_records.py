"""Interpretation of records of `items`, the same for every reader of the catalogue."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from streamrec.contracts.decode import decode_item, deleted_by, withdrawn_by
from streamrec.contracts.incoming import Item
from streamrec.contracts.topics import ITEMS
from streamrec.errors import BadRecordError
from streamrec.service.batch import Record
from streamrec.service.tally import Tally


class ItemChange(NamedTuple):
    """Effect of a record: the new metadata of an item, or ids of removed items.

    Parameters
    ----------
    put
        New metadata of the item.
    gone
        Items to remove from lists: deleted, or withdrawn by a record that is refused for other reasons.
    is_deletion
        Whether the record has a null value, so that only its key names the deleted item.
    """

    put: Item | None = None
    gone: tuple[str, ...] = ()
    is_deletion: bool = False


def read_item_record(record: Record, tally: Tally) -> ItemChange:
    """Return the effect of a record, and count refusals."""
    dropped: list[str] = []
    try:
        if record.value is None:
            return ItemChange(gone=deleted_by(record.key), is_deletion=True)
        record.check()
        item = decode_item(record.value, record.key, dropped=dropped)
    except BadRecordError as error:
        tally.refused[ITEMS, error.reason] += 1
        tally.last_refusal = f"key {(record.key or b'')[:80]!r}, offset {record.offset}: {error}"
        return ItemChange(gone=withdrawn_by(record.value, record.key))
    tally.dropped.update((ITEMS, name) for name in dropped)
    return ItemChange(put=item)


class KnownItems:
    """Bloom filter of item ids: fixed size, with a small rate of false positives.

    With a million items, one unknown id in twenty is a false positive; there are no false negatives.
    """

    _BITS = 1 << 23

    def __init__(self) -> None:
        self._bits = bytearray(self._BITS // 8)

    def add(self, item_id: str) -> None:
        """Add an item."""
        for place in self._places(item_id):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, item_id: str) -> bool:
        """Whether an item was probably added."""
        return all(self._bits[place >> 3] >> (place & 7) & 1 for place in self._places(item_id))

    def _places(self, item_id: str) -> tuple[int, int]:
        number = int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little")
        return number % self._BITS, (number >> 32) % self._BITS
