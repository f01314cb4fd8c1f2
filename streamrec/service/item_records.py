"""What a record of `items` changes, for every reader of the catalogue alike."""

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
    """What a record says: an item as it is now, or ids of items that are gone.

    Parameters
    ----------
    put
        What is known of the item from now on.
    gone
        Items that no list may hold: deleted, or withdrawn by a record that is refused for other reasons.
    is_deletion
        Whether the record is a null value, whose key alone says what it deletes.
    """

    put: Item | None = None
    gone: tuple[str, ...] = ()
    is_deletion: bool = False


def read_item_record(record: Record, tally: Tally) -> ItemChange:
    """Return what a record changes, and count what is refused of it."""
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
    """Which items were ever put: in a fixed size, at the price of a few unknown ones that pass for known.

    Of a catalogue of a million items one unknown id in twenty does; a known one never passes for unknown.
    """

    _BITS = 1 << 23

    def __init__(self) -> None:
        self._bits = bytearray(self._BITS // 8)

    def add(self, item_id: str) -> None:
        """Remember an item."""
        for place in self._places(item_id):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, item_id: str) -> bool:
        """Whether an item was put."""
        return all(self._bits[place >> 3] >> (place & 7) & 1 for place in self._places(item_id))

    def _places(self, item_id: str) -> tuple[int, int]:
        number = int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little")
        return number % self._BITS, (number >> 32) % self._BITS
