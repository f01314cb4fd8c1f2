"""`streamrec topk`: a user's list."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer

from streamrec.adapters.redis import TopKReader
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import DataTable, Json, console, print_json
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import Reason
from streamrec.errors import UsageError

SHOWN_ITEMS = 10


def topk(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")],
    items: Annotated[int, typer.Option("--items", "-n", min=1, help="Number of items to show.")] = SHOWN_ITEMS,
    as_json: Json = False,
) -> None:
    """Print a user's latest list and the reason for each item.

    A user without a list gets the default list, as in an application.

    Examples: streamrec topk u42; streamrec topk u42 --items 50; streamrec topk u42 --json
    """
    settings = resolved_settings()
    newest = TopKReader(settings.require_redis_url(), installation=settings.installation).read(user_id)
    if newest is None:
        raise UsageError("no list yet, not even the default one: no event was seen")
    if as_json:
        print_json(msgspec.to_builtins(newest) | {"items": list(newest.items)})
        return
    output = console()
    output.print(list_table(newest, items, title=list_title(newest, user_id)))
    output.print(f"model {newest.model_version or 'none yet'}, arm {newest.arm}, list {newest.list_id}", style="dim")


def list_title(newest: TopKList, user_id: str) -> str:
    """Return a title with the user and the age of the list."""
    whose = f"Top {len(newest.items)} of {user_id}" if newest.user_id else f"{user_id} has no list: the default list"
    age_s = max(0.0, time.time() - newest.made_at_ms / 1_000)
    return f"{whose}, made {_duration(age_s)} ago"


def list_table(newest: TopKList, items: int, *, title: str) -> DataTable:
    """Return the first items of a list as a table."""
    table = DataTable(title=title, title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("item")
    table.add_column("score", justify="right")
    table.add_column("because")
    for rank, item in enumerate(newest.items[:items], start=1):
        table.add_row(str(rank), item.item_id, f"{item.score:.3f}", because(item.reason))
    return table


_WORDS = {
    "neighbour": "often follows",
    "session": "in visits with",
    "linear": "liked with",
    "factors": "fits the same users as",
    "autoencoder": "fits users of",
    "title": "has a title like",
    "category": "popular or new in the category of",
    "model": "the model: goes with",
}
"""By channel, followed by the user's item that led to this one."""


def because(reason: Reason) -> str:
    """Describe why an item is in a list."""
    if reason.item_id is not None:
        return f"{_WORDS.get(reason.channel, reason.channel + ':')} {reason.item_id}"
    return "popular now" if reason.channel == "popular" else "seen before, or new in the catalogue"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
