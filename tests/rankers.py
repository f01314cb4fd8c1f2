"""Rankers and what they are asked, in the fewest words."""

from __future__ import annotations

import msgspec
from interests import START_MS, fold, stream

from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.model.ranking.ranker import ModelRanker


def trained(trainer, events=400, batch=40):
    interests = stream(events)
    records = []
    for start in range(0, events, batch):
        trainer.train(interests[start : start + batch], behind=0)
        records.append(trainer.take_update())
    return interests, records


def ranker_of(records, *, hide_seen=True):
    ranker = ModelRanker(hide_seen=hide_seen)
    for version in records:
        for record in version:
            ranker.apply_update(record)
    return ranker


def first_version(new_trainer, *, hide_seen=True):
    """Return a ranker whose version comes from a single event, as after the first click of all."""
    trainer = new_trainer()
    trainer.train([fold(InterestState(), Event("first", "i0", START_MS, Source(EventType.CLICK, 0), 0))], behind=0)
    return trainer, ranker_of([trainer.take_update()], hide_seen=hide_seen)


def clicked(*item_ids, user_id="u1", first=1):
    """Return the interest of a user who has clicked items one after the other, all of them new."""
    state, new = InterestState(), []
    for offset, item_id in enumerate(item_ids, start=first):
        event = Event(user_id, item_id, START_MS + 1_000 * offset, Source(EventType.CLICK, 0), offset)
        interest = fold(state, event)
        new += interest.new
    return msgspec.structs.replace(interest, new=new)


def ids(items):
    return [item.item_id for item in items]
