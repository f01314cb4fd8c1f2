"""Re-scoring of stale lists: the user is unchanged, but popularity has changed.

By Bayes' rule, P(item | user) as of the time of the list is updated by the change of P(item), which the default list
provides: it is the same estimate for an unknown user, and always fresh. (Correcting for a changed prior: Saerens,
Latinne and Decaestecker 2002, doi 10.1162/089976602753284446.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from operator import itemgetter

import msgspec

from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem
from streamrec.domain.retention import item_hash

TRUST_HALF_LIFE_MS = 3_600_000
"""Items that are not in a list count as unlikely; the half-life of that assumption."""


def brought_up_to_date(topk: TopKList, default: TopKList) -> TopKList:
    """Return a user's list re-scored for now, without the model.

    Items that have become less popular move down, those that have become more popular move up, and items unknown when
    the list was made are added, unless the list hides them. A list as new as the default list, or without priors, is
    returned unchanged. An empty list, or one that only had hidden items to offer when it was made, is replaced by the
    default list without hidden items, unless that is empty.

    Parameters
    ----------
    topk
        A user's list.
    default
        The current default list.
    """
    hidden = hidden_hashes(topk.hidden)
    if not topk.items or _is_hidden(topk.items.ids[0], hidden):
        return _with_something_else(topk, default, hidden)
    age_ms = default.event_time_ms - topk.event_time_ms
    if age_ms <= 0 or not topk.items.priors or not default.items.priors:
        return topk
    own, others = list(topk.items), list(default.items)
    now = {item.item_id: item.score for item in others}
    # items below the end of either default list cannot be compared there
    floor = max(others[-1].score, min(_prior(item) for item in own))
    corrected = [
        (item.score + max(now.get(item.item_id, floor), floor) - max(_prior(item), floor), item) for item in own
    ]
    known = set(topk.items.ids)
    unlikely = own[-1].score
    trust = 0.5 ** (age_ms / TRUST_HALF_LIFE_MS)
    corrected += [
        (trust * min(item.score, unlikely) + (1 - trust) * item.score, item)
        for item in others
        if item.item_id not in known and not _is_hidden(item.item_id, hidden)
    ]
    corrected.sort(key=itemgetter(0), reverse=True)
    items = [ListItem(item.item_id, score, item.reason, item.prior) for score, item in corrected[: len(own)]]
    return msgspec.structs.replace(topk, items=ListedItems.of(items))


def _with_something_else(topk: TopKList, default: TopKList, hidden: frozenset[int]) -> TopKList:
    others = [place for place, item_id in enumerate(default.items.ids) if not _is_hidden(item_id, hidden)]
    return msgspec.structs.replace(topk, items=default.items.taken(others)) if others else topk


def hide(item_ids: Iterable[str]) -> bytes:
    """Encode hidden items for the field `hidden` of a list.

    Examples
    --------
    >>> hide(["a", "b", "a"]).hex()
    'f9efbe7143beb7e8'
    """
    hashes = sorted(set(map(item_hash, item_ids)))
    return struct.pack(f"<{len(hashes)}I", *hashes)


def hidden_hashes(hidden: bytes) -> frozenset[int]:
    """Decode the hashes in the field `hidden` of a list."""
    return frozenset(struct.unpack(f"<{len(hidden) // 4}I", hidden[: len(hidden) // 4 * 4]))


def _is_hidden(item_id: str, hidden: frozenset[int]) -> bool:
    return bool(hidden) and item_hash(item_id) in hidden


def _prior(item: ListItem) -> float:
    return item.score if item.prior is None else item.prior
