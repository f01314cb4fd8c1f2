"""Withdrawn items leave stored lists: one pass over all lists for a burst of withdrawals, in the background.

Recall makes no list with a withdrawn item, and `TopKReader` drops it from older ones. Whoever reads the store or the
topic directly must not see it either. There is no index from items to lists: it would cost a hundred writes with each
list. A pass looks into every list once, for all items that wait when it begins, a few lists at a time.

Of several workers one cleans at a time. If it dies, another one begins the pass again: items wait until a pass ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import msgspec
import structlog

from streamrec.contracts.derived import TopKList
from streamrec.contracts.topics import RECOMMENDATIONS
from streamrec.service.list_ports import ListMarks, StoredLists
from streamrec.service.ports import Outgoing, Publisher

CLAIM_S = 60
"""A worker that has not continued its pass for so long has lost it to another one."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TopKList)
_log = structlog.get_logger(__name__)


class _Pass(NamedTuple):
    """How far a pass has come."""

    items: int
    cursor: int = 0
    lists: int = 0


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
        self._unsent: list[tuple[str, bytes]] = []
        """Lists by user that are in the store without the withdrawn items and not yet on the topic."""

    def is_needed(self) -> bool:
        """Whether any item waits to be taken out of lists, or a list to be published."""
        return self._pass is not None or bool(self._unsent) or self._store.is_withdrawn_waiting()

    def step(self) -> bool:
        """Clean the next few lists; answer whether there is more to do, and nobody else does it.

        Raises
        ------
        TransientError
            If the store or the broker is unavailable; the next call continues from here.
        """
        self._publish_rest()
        if not self._store.claim_cleaning(CLAIM_S):
            self._pass = None
            return False
        if self._pass is None:
            self._pass = _Pass(self._store.begin_cleaning())
        items, cursor, lists = self._pass
        if not items:
            self._pass = None
            return False
        cursor, found = self._store.lists_to_clean(cursor)
        cleaned = self._clean(found)
        self._publish()
        self._pass = _Pass(items, cursor, lists + cleaned)
        if not cursor:
            self._store.end_cleaning()
            _log.info("withdrawn items left the stored lists", items=items, lists=lists + cleaned)
            self._pass = None
        return True

    def _clean(self, found: Sequence[tuple[bytes, Sequence[str]]]) -> int:
        """Replace lists by themselves without items, unless a newer one is stored by now; return how many."""
        cleaned = []
        for value, gone in found:
            try:
                topk = _decoder.decode(value)
            except msgspec.DecodeError as error:
                _log.warning("a stored list cannot be read", because=str(error))
                continue
            kept = [item for item in topk.items if item.item_id not in gone]
            cleaned.append(
                (topk.user_id, value, _encoder.encode(msgspec.structs.replace(topk, items=kept, rebuilt=True)))
            )
        # before they lose items: a crash in between has a list made again that is not short
        self._marks.shorten([user_id for user_id, _, _ in cleaned])
        replaced = self._store.swap_lists(cleaned)
        self._unsent += [(user_id, value) for user_id, _, value in compress(cleaned, replaced)]
        return sum(replaced)

    def _publish_rest(self) -> None:
        """Publish what could not be published before, but for lists that were replaced since: newer ones are out."""
        if self._unsent:
            self._unsent = list(compress(self._unsent, self._store.are_stored(self._unsent)))
            self._publish()

    def _publish(self) -> None:
        if self._unsent:
            self._publisher.publish(
                [Outgoing(RECOMMENDATIONS, user_id.encode(), value) for user_id, value in self._unsent]
            )
            self._unsent = []
