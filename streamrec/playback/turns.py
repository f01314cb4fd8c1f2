"""Turns of users: rows of a file, or visits to a simulated shop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from streamrec.adapters.event_files import EventFile
from streamrec.contracts.derived import TopKList
from streamrec.contracts.incoming import Click, Feedback, Item, Purchase
from streamrec.playback.records import event_record, item_record
from streamrec.service.ports import Outgoing
from streamrec.simulated_shop import ShopEvent, ShopItem, SimulatedShop, Visit

HIT_AT = 10
"""Cutoff of hits in a list."""


class PlayedEvent(NamedTuple):
    """An event of a turn."""

    message: Click | Purchase | Feedback
    scored: bool
    """Whether lists can be scored by it: it does not depend on the list."""


class Play(NamedTuple):
    """Results of a turn."""

    events: list[PlayedEvent]
    items: Sequence[Outgoing] = ()
    """Records of added and removed items."""
    withdrawn: Sequence[str] = ()
    """Removed items."""
    best: Sequence[str] | None = None
    """The oracle's list, if requested."""

    def records(self) -> list[Outgoing]:
        """Return the records to produce."""
        return [*self.items, *(event_record(event.message) for event in self.events)]


class Turn(NamedTuple):
    """A visit of a user, whose events may depend on the shown list."""

    user_id: str
    play: Callable[[TopKList | None], Play]
    best: Callable[[], list[str]] | None = None
    """Returns the oracle's list, called before the turn is played; `None` without an oracle."""


def file_turns(file: EventFile, *, limit: int | None, category_of: Mapping[str, str]) -> Iterator[Turn]:
    """Return a turn for each event of a file; other rows are skipped."""
    for event in file.events(limit=limit, category_of=category_of):
        if event.message is not None:
            play = Play([PlayedEvent(event.message, scored=True)])
            yield Turn(event.message.user_id, partial(_whatever_is_shown, play))


def shop_turns(shop: SimulatedShop) -> Iterator[Turn]:
    """Return a turn for each visit to a simulated shop."""
    for visit in shop.visits():
        yield Turn(visit.user_id, partial(_visit, shop, visit), partial(shop.best_list, visit, HIT_AT))


def hold_back(turns: Iterable[Turn], count: int) -> tuple[Iterator[Turn], deque[Turn]]:
    """Split off the last turns, which are complete once the first ones have been read."""
    last: deque[Turn] = deque()

    def first() -> Iterator[Turn]:
        for turn in turns:
            last.append(turn)
            if len(last) > count:
                yield last.popleft()

    return first(), last


def _whatever_is_shown(play: Play, _shown: TopKList | None) -> Play:
    return play


def _visit(shop: SimulatedShop, visit: Visit, shown: TopKList | None) -> Play:
    items = [item_record(_item(item)) for item in visit.appeared]
    items += [item_record(_item(item, available=False)) for item in visit.died]
    withdrawn = [item.item_id for item in visit.died]
    answers = shop.answer(visit, shown.items.ids if shown else [])
    return Play([PlayedEvent(_message(event, shown), scored=event.organic) for event in answers], items, withdrawn)


def _item(item: ShopItem, *, available: bool = True) -> Item:
    return Item(item_id=item.item_id, available=available, category=item.category, price=item.price, currency="EUR")


def _message(event: ShopEvent, shown: TopKList | None) -> Click | Purchase:
    list_id = shown.list_id if shown and event.position is not None else None
    if event.purchase:
        return Purchase(
            user_id=event.user_id,
            item_id=event.item.item_id,
            event_time_ms=event.event_time_ms,
            category=event.item.category,
            price=event.item.price,
            currency="EUR",
            list_id=list_id,
            position=event.position,
        )
    return Click(
        user_id=event.user_id,
        item_id=event.item.item_id,
        event_time_ms=event.event_time_ms,
        category=event.item.category,
        list_id=list_id,
        position=event.position,
    )
