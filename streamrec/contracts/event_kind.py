"""Maps CloudEvents types to kinds of events."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_KIND_OF_WORD = {
    "click": "click",
    "clicks": "click",
    "clicked": "click",
    "purchase": "purchase",
    "purchases": "purchase",
    "purchased": "purchase",
}


def kind_named_by(event_type: str) -> str | None:
    """Return the kind of event that a type names, or `None`.

    A type is split into words at punctuation, digits and capital letters; case does not matter. The last word that
    names a kind decides: `click`, `clicks`, `clicked` or `purchase`, `purchases`, `purchased`.

    Examples
    --------
    >>> kind_named_by("com.example.shop.item_clicked"), kind_named_by("com.example.ItemPurchased.v1")
    ('click', 'purchase')
    >>> kind_named_by("com.doubleclick.view") is None
    True
    """
    kinds = [kind for word in _WORD.findall(event_type) if (kind := _KIND_OF_WORD.get(word.lower()))]
    return kinds[-1] if kinds else None
