"""Maps item ids to table rows: without collisions, bounded, with reuse of expired rows.

Monolith (Liu et al. 2022, arXiv 2209.07663) measures the cost of hashed ids and describes the two filters used here: an
item's embedding is only trained after some events, and expires after a long time without events.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

DAY_MS = 86_400_000

BLOCK_ROWS = 64
"""Tables grow in blocks of this many rows."""

PADDING = 0
"""The padding row."""


class Vocabulary:
    """Assigns a row to every item, evicting the least recent one.

    All times are event times, so that a replay of old data evicts the same items as the original stream.

    Parameters
    ----------
    max_items
        Maximum number of items: a new one beyond it takes the row of the least recent one.
    admit_after
        Events of an item before its embedding is trained; until then its initial vector, content and counts are used.
    time_to_live_days
        An item without events for this long expires.
    on_free
        Called with each freed row, before it is reassigned.

    Attributes
    ----------
    ids
        Id by row, an empty string for free rows.
    events
        Events by row, `(capacity,)`.
    """

    def __init__(
        self,
        *,
        max_items: int = 1_000_000,
        admit_after: int = 1,
        time_to_live_days: float = 90.0,
        on_free: Callable[[int], None] = lambda _row: None,
    ) -> None:
        self.max_items = max_items
        self.admit_after = admit_after
        self.time_to_live_ms = int(time_to_live_days * DAY_MS)
        self.on_free = on_free
        self.ids: list[str] = [""]
        self.events = np.zeros(1024, np.int64)
        self._last_ms: OrderedDict[str, int] = OrderedDict()
        """Time of the last event by id, least recent first."""
        self._rows: dict[str, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        """Return the number of rows, used or free, including padding: the required table size."""
        return len(self.ids)

    @property
    def live_items(self) -> int:
        """Number of items with a row."""
        return len(self._rows)

    def row(self, item_id: str) -> int:
        """Return the row of an item, or `PADDING` if it has none."""
        return self._rows.get(item_id, PADDING)

    def admitted(self, rows: np.ndarray) -> np.ndarray:
        """Return which of these rows are trained."""
        admitted: np.ndarray = self.events[rows] >= self.admit_after
        return admitted

    def observe(self, item_id: str, event_time_ms: int, *, is_repeat: bool = False) -> tuple[int, bool]:
        """Count an event of an item, unless it is a repetition; return its row and whether the item is new."""
        row = self._rows.get(item_id)
        is_new = row is None
        if row is None:
            self._expire(event_time_ms)
            row = self._take_row(item_id)
        self.events[row] += is_new or not is_repeat
        self._last_ms[item_id] = max(event_time_ms, self._last_ms.get(item_id, 0))
        self._last_ms.move_to_end(item_id)
        return row, is_new

    def remove(self, item_id: str) -> None:
        """Free the row of an item."""
        row = self._rows.pop(item_id)
        del self._last_ms[item_id]
        self.on_free(row)
        self.ids[row] = ""
        self.events[row] = 0
        self._free.append(row)

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for a checkpoint."""
        return {
            "ids": pack_ids(self.ids),
            "events": self.events[: len(self)].copy(),
            "free": np.array(self._free, np.int64),
            "order": np.array([self._rows[item_id] for item_id in self._last_ms], np.int64),
            "last_ms": np.array(list(self._last_ms.values()), np.int64),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        self.ids = unpack_ids(state["ids"])
        self.events = state["events"].copy()
        self._free = state["free"].tolist()
        self._rows = {item_id: row for row, item_id in enumerate(self.ids) if item_id}
        self._last_ms = OrderedDict(
            (self.ids[row], last_ms) for row, last_ms in zip(state["order"], state["last_ms"].tolist(), strict=True)
        )

    def _expire(self, now_ms: int) -> None:
        while self._last_ms:
            item_id, last_ms = next(iter(self._last_ms.items()))
            if now_ms - last_ms <= self.time_to_live_ms and len(self._rows) < self.max_items:
                return
            self.remove(item_id)

    def _take_row(self, item_id: str) -> int:
        if self._free:
            row = self._free.pop()
            self.ids[row] = item_id
        else:
            row = len(self.ids)
            self.ids.append(item_id)
            if row >= len(self.events):
                self.events = grown(self.events, row + 1)
        self._rows[item_id] = row
        return row


def grown(table: np.ndarray, rows: int) -> np.ndarray:
    """Return the table with capacity for this many rows: itself, or a copy of at least twice the size."""
    if rows <= len(table):
        return table
    capacity = -(-max(rows, 2 * len(table)) // BLOCK_ROWS) * BLOCK_ROWS
    larger = np.zeros((capacity, *table.shape[1:]), table.dtype)
    larger[: len(table)] = table
    return larger


def pack_ids(ids: list[str]) -> np.ndarray:
    """Return ids as one array of bytes, separated by NUL, which ids never contain."""
    return np.frombuffer("\0".join(ids).encode(), np.uint8).copy()


def unpack_ids(packed: np.ndarray) -> list[str]:
    """Invert :func:`pack_ids`; an empty array gives one empty id."""
    return packed.tobytes().decode().split("\0")
