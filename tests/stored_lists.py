"""Lists for tests of their stores, in the fewest words."""

from __future__ import annotations

import msgspec
from builders import NOW_MS, part

from streamrec.adapters.redis import RedisTopKStore, TopKReader
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.service.list_ports import EncodedList
from streamrec.service.withdrawn import Withdrawn, WithdrawnChange


class RedisLists(RedisTopKStore):
    """The real store, with the real reader beside it."""

    def __init__(self, url, *, installation=""):
        super().__init__(url, list_ttl_days=1, installation=installation)
        self.read = TopKReader(url, installation=installation).read


def topk(user_id, *item_ids, version=1):
    return TopKList(
        state_version=version,
        list_id=f"list-{version}",
        user_id=user_id,
        items=ListedItems.of([ListItem(item_id, 1.0, Reason("model", "i0")) for item_id in item_ids]),
        model_version="m1",
        arm="personal",
        event_time_ms=NOW_MS,
        produced_at_ms=NOW_MS,
        made_at_ms=NOW_MS,
    )


def encoded(*lists):
    return [
        EncodedList(each.user_id, each.state_version, msgspec.json.encode(each), bool(each.hidden)) for each in lists
    ]


def put(store, lists, slices):
    """Write lists and move the positions, as a batch does; answer whether both were done."""
    return store.put_lists(encoded(*lists), slices) and store.advance(slices, [])


def slices(start, following):
    return [part("user-interests", [b""] * (following - start), start=start)]


def withdraw(store, *item_ids, at_ms=NOW_MS):
    """Mark items as withdrawn, as a worker does that knows of no others."""
    store.mark_items(WithdrawnChange(dict.fromkeys(item_ids, at_ms), [], "", ""))


def give_back(store, *item_ids):
    store.mark_items(WithdrawnChange({}, item_ids, "", ""))


def all_withdrawn(items):
    """Return what a worker knows that has read all of the catalogue."""
    withdrawn = Withdrawn()
    withdrawn.change(items, [])
    return withdrawn
