"""Withdrawn items leave stored lists: one pass over all lists for a burst of withdrawals, in the background.

Recall makes no list with a withdrawn item, and `TopKReader` drops it from older ones. Whoever reads the store or the
topic directly must not see it either. There is no index from items to lists: it would cost a hundred writes with each
list. A pass looks into every list once, for all items that wait, a few lists at a time.

Of several workers one cleans at a time. If it dies, another one begins the pass again: items wait until a pass ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import structlog

from streamrec.contracts.derived import TopKList
from streamrec.contracts.topics import RECOMMENDATIONS
from streamrec.service.list_ports import ListMarks, StoredLists
from streamrec.service.ports import Outgoing, Publisher

MAX_ITEMS = 10_000
"""Items that one pass looks for; more wait for the next one."""

CLAIM_S = 60
"""A worker that has not continued its pass for so long has lost it to another one."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TopKList)
_log = structlog.get_logger(__name__)


class _Pass(NamedTuple):
    """How far a pass has come."""

    items: frozenset[str]
    cursor: int
    lists: int


class CleanLists:
    """Takes withdrawn items out of stored lists, and publishes what is left of each list.

    Parameters
    ----------
    store
        Where lists are.
    publisher
        Where lists go that have changed.
    marks
        Has the lists that have lost items made again.
    """

    def __init__(self, store: StoredLists, publisher: Publisher, marks: ListMarks) -> None:
        self._store = store
        self._marks = marks
        self._publisher = publisher
        self._pass: _Pass | None = None
        self._unsent: list[Outgoing] = []
        """Lists that are in the store without the withdrawn items and not yet on the topic."""

    def is_needed(self) -> bool:
        """Whether any item waits to be taken out of lists."""
        return self._pass is not None or bool(self._store.withdrawn_waiting(1))

    def step(self) -> bool:
        """Clean the next few lists; answer whether there is more to do, and nobody else does it.

        Raises
        ------
        TransientError
            If the store or the broker is unavailable; the next call continues from here.
        """
        if not self._store.claim_cleaning(CLAIM_S):
            self._pass = None
            return False
        if self._pass is None:
            self._pass = _Pass(frozenset(self._store.withdrawn_waiting(MAX_ITEMS)), 0, 0)
        items, cursor, lists = self._pass
        if not items:
            self._pass = None
            return False
        self._publish()
        cursor, found = self._store.lists_with(items, cursor)
        cleaned = self._clean(found, items)
        self._publish()
        self._pass = _Pass(items, cursor, lists + cleaned)
        if not cursor:
            self._store.withdrawn_cleaned(items)
            _log.info("withdrawn items left the stored lists", items=len(items), lists=lists + cleaned)
            self._pass = None
        return True

    def _clean(self, found: Sequence[bytes], items: frozenset[str]) -> int:
        """Replace lists by themselves without these items, unless a newer one is stored by now; return how many."""
        cleaned = []
        for value in found:
            try:
                topk = _decoder.decode(value)
            except msgspec.DecodeError as error:
                _log.warning("a stored list cannot be read", because=str(error))
                continue
            kept = [item for item in topk.items if item.item_id not in items]
            cleaned.append(
                (topk.user_id, value, _encoder.encode(msgspec.structs.replace(topk, items=kept, rebuilt=True)))
            )
        # before they lose items: a crash in between has a list made again that is not short
        self._marks.shorten([user_id for user_id, _, _ in cleaned])
        replaced = self._store.swap_lists(cleaned)
        self._unsent += [
            Outgoing(RECOMMENDATIONS, user_id.encode(), value)
            for (user_id, _, value), is_replaced in zip(cleaned, replaced, strict=True)
            if is_replaced
        ]
        return sum(replaced)

    def _publish(self) -> None:
        if self._unsent:
            self._publisher.publish(self._unsent)
            self._unsent = []
