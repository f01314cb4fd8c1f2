"""Records of messages to produce."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from streamrec.contracts.incoming import Click, Feedback, Item, Purchase
from streamrec.contracts.topics import CLICKS, FEEDBACK, ITEMS, PURCHASES
from streamrec.service.ports import Outgoing, Publisher

_ITEMS_AT_A_TIME = 1_000

_encoder = msgspec.json.Encoder()


_TOPICS = {Click: CLICKS, Purchase: PURCHASES, Feedback: FEEDBACK}


def event_record(message: Click | Purchase | Feedback, headers: Mapping[str, bytes] | None = None) -> Outgoing:
    """Return the record of an event, keyed by its user, with the headers of its event id, if any."""
    return Outgoing(_TOPICS[type(message)], message.user_id.encode(), _encoder.encode(message), headers or {})


def item_record(item: Item) -> Outgoing:
    """Return the record of an item, keyed by its id."""
    return Outgoing(ITEMS, item.item_id.encode(), _encoder.encode(item))


def publish_items(items: Iterable[Item], publisher: Publisher) -> dict[str, str]:
    """Publish a catalogue in chunks, and return the category of each item that has one.

    The map is as large as the catalogue.
    """
    category_of: dict[str, str] = {}
    for chunk in _chunks(items):
        publisher.publish([item_record(item) for item in chunk])
        category_of.update((item.item_id, item.category) for item in chunk if item.category)
    return category_of


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _ITEMS_AT_A_TIME)):
        yield chunk
