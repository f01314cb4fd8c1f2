"""Withdrawn items leave stored lists, whatever else is stored where lists are."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
from builders import NOW_MS
from doubles import MemoryPublisher

from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.service.clean_lists import CleanLists


def test_what_is_no_list_keeps_no_list_from_being_cleaned():
    garbage = b'{"item_id":"gone","score":1}'
    topk = TopKList(
        state_version=1,
        list_id="l",
        user_id="u1",
        items=ListedItems.of([ListItem(item_id, 1.0, Reason("popular")) for item_id in ("gone", "stays")]),
        model_version="v",
        arm="personal",
        event_time_ms=NOW_MS,
        produced_at_ms=NOW_MS,
        made_at_ms=NOW_MS,
    )
    swapped = []
    store = SimpleNamespace(
        claim_cleaning=lambda _seconds: True,
        begin_cleaning=lambda: 1,
        lists_to_clean=lambda _cursor: (0, [(garbage, ["gone"]), (msgspec.json.encode(topk), ["gone"])]),
        swap_lists=lambda lists: swapped.extend(lists) or [True] * len(lists),
        end_cleaning=lambda: None,
    )
    publisher = MemoryPublisher()

    assert CleanLists(store, publisher, SimpleNamespace(shorten=lambda _users: None)).step()
    assert [user_id for user_id, _, _ in swapped] == ["u1"]
    (sent,) = publisher.of("recommendations")
    assert msgspec.json.decode(sent.value)["items"]["ids"] == ["stays"]
