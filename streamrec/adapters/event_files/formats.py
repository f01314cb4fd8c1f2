"""Formats of event logs, and their detection."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamrec.adapters.event_files.event_types import OTHER_TOPIC
from streamrec.adapters.event_files.tables import Row

Expand = Callable[[Row], Iterator[Row]]

GENERAL = "table"
HEADERS = "\0headers"
"""Key of a row's record headers; not a valid column name."""

_NAMING = ("ce_source", "ce_id")


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Options for reading a file; anything not given is detected.

    Parameters
    ----------
    format
        One of `FORMATS`.
    columns
        Column of the file by field of the contract, `event_type` and `timestamp`; the number of a column, from 1, if
        there is no header.
    types
        Event type of the contract by event type in the file.
    event_type
        Event type of every row, if there is no such column.
    separator
        Separator between the cells of text.
    header
        Whether the first line of text names the columns.
    time_unit
        Unit of numeric times, one of `TIME_UNITS`.
    best_rating
        The best rating of the scale.
    """

    format: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    event_type: str = ""
    separator: str = ""
    header: bool = True
    time_unit: str = ""
    best_rating: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A variant of a format.

    Parameters
    ----------
    format
        Name of the format.
    columns
        Column of the file by field.
    needs
        Columns by which it is recognised; by default those of `columns`.
    header
        Column names of text without a header line, in order.
    line
        Pattern of a line of such text.
    separator, quoted
        Separator of such text, and whether cells may be quoted.
    event_type
        Event type of every row, if there is no such column.
    expand
        Expands a row to several.
    context
        Whether other columns become the event's context.
    """

    format: str
    columns: Mapping[str, str]
    needs: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    line: str = ""
    separator: str = ""
    quoted: bool = False
    event_type: str = ""
    expand: Expand | None = None
    context: bool = False

    def has(self, columns: Sequence[str]) -> bool:
        """Return whether the columns match."""
        return not self.header and set(self.needs or self.columns.values()) <= set(columns)

    def begins(self, line: str) -> bool:
        """Return whether the first line of a file without a header matches."""
        return bool(self.header) and re.fullmatch(self.line, line) is not None


def _otto(row: Row) -> Iterator[Row]:
    """Expand a session to a row per event."""
    events = row.get("events")
    for event in events if isinstance(events, list) else ():
        yield {"session": row.get("session"), **(event if isinstance(event, dict) else {})}


def _mind(row: Row) -> Iterator[Row]:
    """Expand an impression to a row per news item: `N1-1` was clicked, `N1-0` was not."""
    for shown in str(row.get("impressions") or "").split():
        news, _, clicked = shown.rpartition("-")
        yield {**row, "news": news, "event": "click" if clicked == "1" else "impression"}


def _yoochoose(row: Row) -> Iterator[Row]:
    """Drop zeros that mean unknown."""
    yield {
        name: value for name, value in row.items() if not (name in {"category", "price", "quantity"} and value == "0")
    }


def _lastfm(row: Row) -> Iterator[Row]:
    """Use artist and title as the id of a track without one."""
    yield row if row.get("track") else {**row, "track": f"{row.get('artist name')} - {row.get('track name')}"}


def _dumped(row: Row) -> Iterator[Row]:
    """Unwrap a record written by a consumer tool; its topic determines the event type."""
    value = row.get("value", row.get("payload"))
    message = _object(value)
    types = {"clicks": "click", "purchases": "purchase", "feedback": message.get("type")}
    topic = str(row.get("topic")).rpartition(".")[2]  # without the prefix of an installation
    yield {**message, "type": types.get(topic, OTHER_TOPIC), HEADERS: _headers(row.get("headers"))}


def _headers(headers: object) -> dict[str, bytes]:
    """Return the headers with an event's id, from alternating names and values (kcat), pairs, or an object."""
    if isinstance(headers, dict):
        pairs = list(headers.items())
    elif isinstance(headers, list) and all(isinstance(each, list) and len(each) == 2 for each in headers):
        pairs = [(name, value) for name, value in headers]
    else:
        turns = headers if isinstance(headers, list) else []
        pairs = list(zip(turns[::2], turns[1::2], strict=False))
    return {name: value.encode() for name, value in pairs if name in _NAMING and isinstance(value, str)}


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON value
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return {}
    return value if isinstance(value, dict) else {}


_OURS = {"user_id": "user_id", "item_id": "item_id"}
_UUID_TIME = r"\d{4}-\d\d-\d\dT[\d:.]+Z?"

SHAPES = (
    Shape(format="streamrec", columns=_OURS | {"event_time_ms": "event_time_ms", "event_type": "type"}, context=True),
    Shape(format="streamrec", columns=_OURS | {"timestamp": "timestamp", "event_type": "event_type"}, context=True),
    *(
        Shape(
            format="streamrec",
            columns=_OURS | {"event_time_ms": "event_time_ms", "event_type": "type"},
            needs=("topic", name),
            expand=_dumped,
            context=True,
        )
        for name in ("value", "payload")
    ),
    Shape(
        format="retailrocket",
        columns={"user_id": "visitorid", "item_id": "itemid", "event_type": "event", "timestamp": "timestamp"}
        | {"order_id": "transactionid"},
        needs=("visitorid", "itemid", "event", "timestamp"),
    ),
    Shape(
        format="movielens",
        columns={"user_id": "userId", "item_id": "movieId", "value": "rating", "timestamp": "timestamp"},
        event_type="rating",
    ),
    Shape(
        format="movielens",
        columns={"user_id": "user", "item_id": "movie", "value": "rating", "timestamp": "time"},
        header=("user", "movie", "rating", "time"),
        line=r"\d+(::|\t)\d+\1[\d.]+\1\d+",
        event_type="rating",
    ),
    Shape(
        format="otto",
        columns={"user_id": "session", "item_id": "aid", "event_type": "type", "timestamp": "ts"},
        needs=("session", "events"),
        expand=_otto,
    ),
    Shape(
        format="mind",
        columns={"user_id": "user", "item_id": "news", "event_type": "event", "timestamp": "time"},
        header=("impression", "user", "time", "history", "impressions"),
        line=r"\d+\tU\d+\t\d+/\d+/\d+ [^\t]*\t[^\t]*\t[^\t]*-[01].*",
        separator="\t",
        expand=_mind,
    ),
    Shape(
        format="yoochoose",
        columns={"user_id": "session", "item_id": "item", "timestamp": "time", "category": "category"},
        header=("session", "time", "item", "category"),
        line=rf"\d+,{_UUID_TIME},\d+,[^,]*",
        separator=",",
        event_type="click",
        expand=_yoochoose,
    ),
    Shape(
        format="yoochoose",
        columns={"user_id": "session", "item_id": "item", "timestamp": "time"}
        | {"price": "price", "quantity": "quantity"},
        header=("session", "time", "item", "price", "quantity"),
        line=rf"\d+,{_UUID_TIME},\d+,\d+,\d+",
        separator=",",
        event_type="purchase",
        expand=_yoochoose,
    ),
    Shape(
        format="amazon",
        columns={"user_id": "user_id", "item_id": "parent_asin", "value": "rating", "timestamp": "timestamp"},
        event_type="rating",
    ),
    Shape(
        format="amazon",
        columns={"user_id": "reviewerID", "item_id": "asin", "value": "overall", "timestamp": "unixReviewTime"},
        event_type="rating",
    ),
    Shape(
        format="hm",
        columns={"user_id": "customer_id", "item_id": "article_id", "timestamp": "t_dat", "price": "price"},
        needs=("customer_id", "article_id", "t_dat"),
        event_type="purchase",
    ),
    Shape(
        format="lastfm",
        columns={"user_id": "user", "item_id": "track", "timestamp": "time"},
        header=("user", "time", "artist", "artist name", "track", "track name"),
        line=rf"[^\t]+\t{_UUID_TIME}(\t[^\t]*){{4}}",
        separator="\t",
        event_type="listen",
        expand=_lastfm,
    ),
)

_RECBOLE = re.compile(r"(\w+):(token|token_seq|float|float_seq)")

_ALIASES = {
    "user_id": "user_id userid user visitorid visitor_id customer_id customerid session_id",
    "item_id": "item_id itemid item product_id productid article_id movie_id movieid asin sku artist_id track_id",
    "event_type": "event_type event type eventtype action behavior behavior_type interaction",
    "timestamp": "timestamp event_time_ms event_time ts time unixreviewtime datetime date created_at timestamp_ms",
    "price": "price unit_price",
    "order_id": "order_id basket_id transaction_id",
    "value": "value rating",
}
ALIASES: Mapping[str, tuple[str, ...]] = {name: tuple(words.split()) for name, words in _ALIASES.items()}
"""Common column names by field, most likely first; other fields have their own name only."""

FORMATS = (*dict.fromkeys(shape.format for shape in SHAPES), "recbole", GENERAL)
"""Names of all formats: the known ones, and any table whose columns are given or can be guessed."""


def plain_name(column: str) -> str:
    """Return a column name without RecBole's type suffix.

    Examples
    --------
    >>> plain_name("user_id:token")
    'user_id'
    """
    typed = _RECBOLE.fullmatch(column)
    return typed[1] if typed else column


def is_recbole(columns: Sequence[str]) -> bool:
    """Return whether all columns have a type suffix, as in RecBole's `.inter` files."""
    return bool(columns) and all(_RECBOLE.fullmatch(column) for column in columns)


def guess_columns(columns: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """Guess the column of each field by name, ignoring case.

    Examples
    --------
    >>> guess_columns(["CustomerID", "sku", "price"], ["user_id", "item_id", "price", "currency"])
    {'user_id': 'CustomerID', 'item_id': 'sku', 'price': 'price'}
    """
    by_name = {plain_name(column).lower(): column for column in reversed(columns)}
    found: dict[str, str] = {}
    for name in fields:
        column = next((by_name[alias] for alias in ALIASES.get(name, (name,)) if alias in by_name), None)
        if column is not None and column not in found.values():
            found[name] = column
    return found
