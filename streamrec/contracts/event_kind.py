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

_FEEDBACK_OF_WORD = {
    word: kind
    for kind, words in {
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


def kind_named_by(event_type: str, *, like: str) -> str | None:
    """Return the kind of event that a type names, or `None`.

    A type is split into words at punctuation, digits and capital letters; case does not matter. The last word that
    names a kind decides: `click`, `clicks`, `clicked`, for instance. Words for feedback count only where feedback is
    expected.

    Parameters
    ----------
    like
        The expected kind.

    Examples
    --------
    >>> kind_named_by("com.example.shop.item_clicked", like="click")
    'click'
    >>> kind_named_by("com.example.ItemPurchased.from_cart", like="purchase")
    'purchase'
    >>> kind_named_by("com.example.cart.item_disliked", like="dislike")
    'dislike'
    >>> kind_named_by("com.doubleclick.view", like="click") is None
    True
    """
    known = _KIND_OF_WORD if like in _KIND_OF_WORD else _FEEDBACK_OF_WORD
    kinds = [kind for word in _WORD.findall(event_type) if (kind := known.get(word.lower()))]
    return kinds[-1] if kinds else None
