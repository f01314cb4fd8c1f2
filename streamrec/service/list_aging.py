"""What becomes of a list while its user is away: the user is the same, the world has moved on.

By Bayes' rule a list that knows P(item | user) as of its own time is brought up to date by the change of P(item), which
the default list tells: it is the same estimate for a user nobody knows, and always fresh. (Correcting for a changed
prior: Saerens, Latinne and Decaestecker 2002, doi 10.1162/089976602753284446.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from operator import itemgetter

import msgspec

from streamrec.contracts.derived import ListItem, TopKList
from streamrec.domain.retention import item_hash

TRUST_HALF_LIFE_MS = 3_600_000
"""What a list leaves out it holds for unlikely; with so much time half of that is forgotten."""


def brought_up_to_date(topk: TopKList, default: TopKList) -> TopKList:
    """Return a user's list as it would look now, as far as that can be told without the model.

    Items that have become less popular sink, those that have become more so rise, and those that nobody knew when the
    list was made come in, unless the list hides them. A list that is as new as the default list, or that does not say
    how likely its items were for everybody, stays as it is. Of an empty list, or one that could hold nothing but hidden
    items when it was made, the default list without hidden items takes the place, if that has any.

    Parameters
    ----------
    topk
        A user's list.
    default
        The newest default list.
    """
    hidden = hidden_hashes(topk.hidden)
    if not topk.items or _is_hidden(topk.items[0], hidden):
        return _with_something_else(topk, default, hidden)
    age_ms = default.event_time_ms - topk.event_time_ms
    if age_ms <= 0 or topk.items[0].prior is None or not default.items or default.items[0].prior is None:
        return topk
    now = {item.item_id: item.score for item in default.items}
    # what was below either default list cannot be compared there
    floor = max(default.items[-1].score, min(_prior(item) for item in topk.items))
    corrected = [
        (item.score + max(now.get(item.item_id, floor), floor) - max(_prior(item), floor), item) for item in topk.items
    ]
    known = {item.item_id for item in topk.items}
    unlikely = topk.items[-1].score
    trust = 0.5 ** (age_ms / TRUST_HALF_LIFE_MS)
    corrected += [
        (trust * min(item.score, unlikely) + (1 - trust) * item.score, item)
        for item in default.items
        if item.item_id not in known and not _is_hidden(item, hidden)
    ]
    corrected.sort(key=itemgetter(0), reverse=True)
    best = corrected[: len(topk.items)]
    items = [ListItem(item.item_id, round(score, 4), item.reason, item.prior) for score, item in best]
    return msgspec.structs.replace(topk, items=items)


def _with_something_else(topk: TopKList, default: TopKList, hidden: frozenset[int]) -> TopKList:
    others = [item for item in default.items if not _is_hidden(item, hidden)]
    return msgspec.structs.replace(topk, items=others) if others else topk


def hide(item_ids: Iterable[str]) -> bytes:
    """Return what the field `hidden` of a list holds for items that the list hides.

    Examples
    --------
    >>> hide(["a", "b", "a"]).hex()
    'f9efbe7143beb7e8'
    """
    hashes = sorted(set(map(item_hash, item_ids)))
    return struct.pack(f"<{len(hashes)}I", *hashes)


def hidden_hashes(hidden: bytes) -> frozenset[int]:
    """Return the hashes in the field `hidden` of a list."""
    return frozenset(struct.unpack(f"<{len(hidden) // 4}I", hidden[: len(hidden) // 4 * 4]))


def _is_hidden(item: ListItem, hidden: frozenset[int]) -> bool:
    return bool(hidden) and item_hash(item.item_id) in hidden


def _prior(item: ListItem) -> float:
    return item.score if item.prior is None else item.prior
