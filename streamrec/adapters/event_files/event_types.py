"""Mapping of event types of other systems."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

# a rating counts regardless of its value, since there is no signed feedback yet
_CLICKS = """
view views viewed page_view pageview product_view item_view view_item detail detail_view select_item open read pv
click clicks clicked play listen watch stream
like favourite favorite fav wishlist add_to_wishlist bookmark save share rating rate review
add_to_cart addtocart add_to_basket addtobasket cart carts basket
"""
_PURCHASES = """
purchase purchases purchased transaction transactions buy buys bought order orders ordered sale sold
"""
_LEFT_OUT = """
impression impressions dislike remove_from_cart removefromcart remove_from_basket remove_from_wishlist
return returns returned refund refunded cancel cancelled canceled unlike skip search
"""

CLICK_TYPES = frozenset(_CLICKS.split())
PURCHASE_TYPES = frozenset(_PURCHASES.split())
OTHER_TOPIC = "record_of_another_topic"
LEFT_OUT_TYPES = frozenset({*_LEFT_OUT.split(), OTHER_TOPIC})
"""Neither interest nor purchase: known, counted, and skipped."""


class Kind(Enum):
    """How a row is used."""

    CLICK = "click"
    PURCHASE = "purchase"
    LEFT_OUT = "left out"
    """Known, but not an event of the contract."""
    UNKNOWN = "unknown"


def kind_of(event_type: object, mapped: Mapping[str, str] | None = None) -> Kind:
    """Return how a row with an event type is used; case, blanks and hyphens are ignored.

    Parameters
    ----------
    mapped
        Meaning of event types in this file, with precedence over the known ones.

    Examples
    --------
    >>> kind_of("Page-View").value, kind_of("dislike").value, kind_of("aardvark").value
    ('click', 'left out', 'unknown')
    >>> kind_of("4", {"4": "buy"}).value
    'purchase'
    """
    name = str(event_type)
    name = (mapped or {}).get(name, name).strip().lower().replace("-", "_").replace(" ", "_")
    if name in CLICK_TYPES:
        return Kind.CLICK
    if name in PURCHASE_TYPES:
        return Kind.PURCHASE
    return Kind.LEFT_OUT if name in LEFT_OUT_TYPES else Kind.UNKNOWN
