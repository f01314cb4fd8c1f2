"""Removes withdrawn items from stored lists: one background pass over all lists per burst of withdrawals.

Recall makes no lists with withdrawn items, and `TopKReader` drops them from older ones. Applications that read the
store or the topic directly must not see them either. There is no index from items to lists, which would cost a hundred
writes per list. A pass examines every list once, a few at a time, for all items waiting when it starts.

One worker cleans at a time. If it dies, another one restarts the pass: items wait until a pass is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import msgspec
import structlog

from streamrec.contracts.decode import decode_list
from streamrec.contracts.topics import RECOMMENDATIONS
from streamrec.service.list_ports import ListMarks, StoredLists
from streamrec.service.ports import Outgoing, Publisher

CLAIM_S = 60
"""Lease duration: a worker that has not continued its pass for this long loses it to another one."""

_encoder = msgspec.json.Encoder()
_log = structlog.get_logger(__name__)


class _Pass(NamedTuple):
    """Progress of a pass."""

    items: int
    cursor: int = 0
    lists: int = 0


class CleanLists:
    """Removes withdrawn items from stored lists, and publishes the remaining lists.

    Parameters
    ----------
    store
        Store of lists.
    publisher
        Publisher of changed lists.
    marks
        Marks lists that have lost items for rebuilding.
    """

    def __init__(self, store: StoredLists, publisher: Publisher, marks: ListMarks) -> None:
        self._store = store
        self._marks = marks
        self._publisher = publisher
        self._pass: _Pass | None = None
        self._unsent: list[tuple[str, bytes]] = []
        """Cleaned lists by user that are stored but not published yet."""

    def is_needed(self) -> bool:
        """Whether any item waits to be removed, or any list to be published."""
        return self._pass is not None or bool(self._unsent) or self._store.is_withdrawn_waiting()

    def step(self) -> bool:
        """Clean the next few lists; return whether there is more to do for this worker.

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
            _log.info("withdrawn items removed from stored lists", items=items, lists=lists + cleaned)
            self._pass = None
        return True

    def _clean(self, found: Sequence[tuple[bytes, Sequence[str]]]) -> int:
        """Remove items from lists, unless a newer one is stored meanwhile; return the number of changed lists."""
        cleaned = []
        for value, gone in found:
            try:
                topk = decode_list(value)
            except msgspec.DecodeError as error:
                _log.warning("a stored list cannot be read", because=str(error))
                continue
            kept = topk.items.taken(place for place, item_id in enumerate(topk.items.ids) if item_id not in gone)
            cleaned.append(
                (topk.user_id, value, _encoder.encode(msgspec.structs.replace(topk, items=kept, rebuilt=True)))
            )
        # before removing items: a crash in between only rebuilds a list that is not short
        self._marks.shorten([user_id for user_id, _, _ in cleaned])
        replaced = self._store.swap_lists(cleaned)
        self._unsent += [(user_id, value) for user_id, _, value in compress(cleaned, replaced)]
        return sum(replaced)

    def _publish_rest(self) -> None:
        """Publish lists that could not be published before, except those replaced by newer ones since."""
        if self._unsent:
            self._unsent = list(compress(self._unsent, self._store.are_stored(self._unsent)))
            self._publish()

    def _publish(self) -> None:
        if self._unsent:
            self._publisher.publish(
                [Outgoing(RECOMMENDATIONS, user_id.encode(), value) for user_id, value in self._unsent]
            )
            self._unsent = []
