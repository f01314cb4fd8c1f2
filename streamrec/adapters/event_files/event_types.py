"""Mapping of event types of other systems."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from streamrec.domain.event import EventType

_NAMES = {
    EventType.CLICK: """
        click clicks clicked select_item open read
        view views viewed page_view pageview product_view item_view view_item detail detail_view pv
    """,
    EventType.PURCHASE: """
        purchase purchases purchased transaction transactions buy buys bought order orders ordered sale sold
    """,
    EventType.ADD_TO_CART: "add_to_cart addtocart add_to_basket addtobasket cart carts basket",
    EventType.FAVOURITE: "favourite favorite fav wishlist add_to_wishlist bookmark save",
    EventType.LIKE: "like likes liked",
    EventType.SHARE: "share shares shared",
    EventType.COMMENT: "comment comments commented",
    EventType.WATCH: "watch watched play played listen listened stream",
    EventType.RATING: "rating rate rated review",
    EventType.DISLIKE: "dislike dislikes disliked",
    EventType.RETURN: "return returns returned refund refunded",
}
_LEFT_OUT = """
impression impressions remove_from_cart removefromcart remove_from_basket remove_from_wishlist
cancel cancelled canceled unlike skip search
"""

TYPES = {name: event_type for event_type, names in _NAMES.items() for name in names.split()}
"""Kinds of events by their names in files. A view of an item is what the contract calls a click."""

OTHER_TOPIC = "record_of_another_topic"
LEFT_OUT_TYPES = frozenset({*_LEFT_OUT.split(), OTHER_TOPIC})
"""Known, but not an event of the contract: counted, and skipped."""


class NoEvent(Enum):
    """Why a row is not used."""

    LEFT_OUT = "left out"
    UNKNOWN = "unknown"


def kind_of(event_type: object, mapped: Mapping[str, str] | None = None) -> EventType | NoEvent:
    """Return the kind of event that a row with an event type is; case, blanks and hyphens are ignored.

    Parameters
    ----------
    mapped
        Meaning of event types in this file, with precedence over the known ones.

    Examples
    --------
    >>> kind_of("Page-View").name, kind_of("search").name, kind_of("aardvark").name
    ('CLICK', 'LEFT_OUT', 'UNKNOWN')
    >>> kind_of("4", {"4": "buy"}).name
    'PURCHASE'
    """
    name = str(event_type)
    name = (mapped or {}).get(name, name).strip().lower().replace("-", "_").replace(" ", "_")
    if name in TYPES:
        return TYPES[name]
    return NoEvent.LEFT_OUT if name in LEFT_OUT_TYPES else NoEvent.UNKNOWN
