"""Messages that users of streamrec produce: clicks, purchases, other feedback, items and impressions.

Unknown fields are ignored, so that producers can be upgraded first; fields added later are optional. These types define
what producers should send; readers also accept some other spellings, and drop optional fields that they cannot use (see
`lenient`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from streamrec.contracts.event_time import MAX_EVENT_TIME_MS, MIN_EVENT_TIME_MS

MAX_ID_CHARACTERS = 256
MAX_CONTEXT_FIELDS = 32
MAX_SHOWN_ITEMS = 1_000

Id = Annotated[
    str,
    # PostgreSQL cannot store the character NUL
    Meta(
        min_length=1,
        max_length=MAX_ID_CHARACTERS,
        pattern="^[^\\x00]*$",
        description="1 to 256 characters, none of them NUL.",
    ),
]
EventTimeMs = Annotated[
    int,
    Meta(
        ge=MIN_EVENT_TIME_MS,
        le=MAX_EVENT_TIME_MS,
        description="Unix milliseconds, UTC, from 1990 to 9999. A time up to a day after the record's timestamp "
        "is replaced by the timestamp; a later one is refused.",
    ),
]
Position = Annotated[int, Meta(ge=0, le=9_999, description="Position in the list; 0 is the top.")]
ContextKey = Annotated[str, Meta(min_length=1, max_length=64)]
ContextValue = Annotated[str, Meta(max_length=256)] | int | float | bool | None
Context = Annotated[
    dict[ContextKey, ContextValue],
    Meta(
        max_length=MAX_CONTEXT_FIELDS,
        description="Further attributes, such as device, country, referrer; see STREAMREC_CONTEXT_KEYS.",
    ),
]
Text = Annotated[str, Meta(max_length=256)]
FeedbackType = Literal[
    "view", "add_to_cart", "favourite", "like", "share", "comment", "watch", "rating", "dislike", "return"
]


class Click(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user opened an item. Topic `clicks`, key: the user id."""

    user_id: Id
    item_id: Id
    event_time_ms: EventTimeMs
    type: Literal["click"] = "click"
    event_id: Id | None = None
    """Unique id of the event, by which duplicates are dropped; the headers `ce_source` and `ce_id` take precedence. An
    event with the id of a different event is refused."""
    category: Text | None = None
    list_id: Id | None = None
    """The list that was clicked: its `list_id`."""
    position: Position | None = None
    context: Context | None = None


class Purchase(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user bought an item. Topic `purchases`, key: the user id."""

    user_id: Id
    item_id: Id
    event_time_ms: EventTimeMs
    type: Literal["purchase"] = "purchase"
    event_id: Id | None = None
    """Unique id of the event, by which duplicates are dropped; the headers `ce_source` and `ce_id` take precedence. An
    event with the id of a different event is refused."""
    category: Text | None = None
    list_id: Id | None = None
    position: Position | None = None
    quantity: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1
    price: Annotated[float, Meta(ge=0, le=1e15, description="Unit price.")] | None = None
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="ISO 4217.")] | None = None
    order_id: Id | None = None
    context: Context | None = None


class Feedback(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user did something else with an item. Topic `feedback`, key: the user id."""

    user_id: Id
    item_id: Id
    event_time_ms: EventTimeMs
    type: FeedbackType
    """What the user did. `STREAMREC_EVENT_WEIGHTS` says how much that counts; an item that was disliked or returned is
    left out of the user's lists, unless the user comes back to it."""
    value: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """The rating, which a rating must have, or how much of the item was watched or listened to."""
    scale: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    """The best rating, 5 by default, or the length of the item in the unit of `value`."""
    event_id: Id | None = None
    """Unique id of the event, by which duplicates are dropped; the headers `ce_source` and `ce_id` take precedence. An
    event with the id of a different event of the same type is refused."""
    category: Text | None = None
    list_id: Id | None = None
    position: Position | None = None
    context: Context | None = None


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Metadata of an item. Topic `items` (compacted), key: the item id; a null value deletes the item."""

    item_id: Id
    available: bool = True
    """`false` withdraws the item: lists made a second later no longer contain it. Null, or a value that is neither true
    nor false, withdraws it, too."""
    category: Text | None = None
    title: Annotated[str, Meta(max_length=1_024)] | None = None
    price: Annotated[float, Meta(ge=0, le=1e15)] | None = None
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] | None = None


class Impression(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A list was actually shown. Topic `impressions` (optional), key: the user id."""

    user_id: Id
    list_id: Id
    event_time_ms: EventTimeMs
    item_ids: Annotated[list[Id], Meta(max_length=MAX_SHOWN_ITEMS, description="Visible items, top first.")] = []
