"""Maps CloudEvents types to kinds of events."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_KIND_OF_WORD = {
    word: kind
    for kind, words in {
        "click": "click clicks clicked",
        "purchase": "purchase purchases purchased",
        "view": "view views viewed",
        "add_to_cart": "cart carts",
        "favourite": "favourite favourites favourited favorite favorites favorited",
        "like": "like likes liked",
        "share": "share shares shared",
        "comment": "comment comments commented",
        "watch": "watch watches watched listen listened play played",
        "rating": "rating ratings rate rated",
        "dislike": "dislike dislikes disliked",
        "return": "return returns returned",
    }.items()
    for word in words.split()
}


def kind_named_by(event_type: str) -> str | None:
    """Return the kind of event that a type names, or `None`.

    A type is split into words at punctuation, digits and capital letters; case does not matter. The last word that
    names a kind decides: `click`, `clicks`, `clicked`, for instance.

    Examples
    --------
    >>> kind_named_by("com.example.shop.item_clicked"), kind_named_by("com.example.ItemPurchased.v1")
    ('click', 'purchase')
    >>> kind_named_by("com.doubleclick.banner") is None
    True
    """
    kinds = [kind for word in _WORD.findall(event_type) if (kind := _KIND_OF_WORD.get(word.lower()))]
    return kinds[-1] if kinds else None
