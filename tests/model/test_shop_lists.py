"""Lists of the simulated shop, made again each night, beside ten lines of code and the best lists possible."""

from __future__ import annotations

import torch

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.contracts.incoming import Item
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import FoldRules, InterestState
from streamrec.evaluation.baselines.categories import PopularInCategories
from streamrec.evaluation.baselines.popularity import RecentPopularity
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.simulated_shop import DAY_MS, SimulatedShop

HIT_AT = 10
MICRO_BATCH = 64
USERS, DAYS, SCORED_FROM_DAY = 250, 18, 12


class Pipeline:
    """What the workers do with the events of a shop, in one thread: fold, learn, and make lists."""

    def __init__(self, trainer):
        self._trainer, self._ranker = trainer, ModelRanker(hide_seen=True)
        self._states: dict[str, InterestState] = {}
        self._interests: dict[str, UserInterest] = {}
        self._waiting: list[UserInterest] = []
        self._events = self._new_events = 0
        self._lists: dict[str, list[str]] = {}

    def put(self, item, *, available):
        message = Item(item_id=item.item_id, available=available, category=item.category)
        self._ranker.put_item(message)
        if available:
            self._trainer.put_item(message)

    def handle(self, user_id, events):
        state, new = self._states.setdefault(user_id, InterestState()), []
        for event in events:
            self._events += 1
            source = Source(EventType.PURCHASE if event.purchase else EventType.CLICK, 0)
            item = event.item
            folded = Event(user_id, item.item_id, event.event_time_ms, source, self._events, category=item.category)
            state.fold(folded, FoldRules(50))
            state.version += 1
            new.append(EventPosition(source.event_type, 0, self._events))
        interest = self._interests[user_id] = UserInterest(
            user_id=user_id,
            state_version=state.version,
            event_time_ms=state.sequence[-1].event_time_ms,
            produced_at_ms=self._events,
            sequence=list(state.sequence),
            new=new,
            short_term={},
            long_term={},
            long_term_items={},
            transitions=[],
            events_count=state.events_count,
        )
        self.make_lists([user_id])
        self._waiting.append(interest)
        self._new_events += len(new)
        if self._new_events >= MICRO_BATCH:
            self.learn()

    def learn(self):
        if self._waiting:
            self._trainer.train(self._waiting, behind=0)
            self._waiting, self._new_events = [], 0
            for record in self._trainer.take_update():
                self._ranker.apply_update(record)

    def make_lists(self, user_ids):
        known = [user_id for user_id in user_ids if user_id in self._interests]
        for user_id, items in zip(
            known, self._ranker.rank([self._interests[each] for each in known], k=50), strict=True
        ):
            self._lists[user_id] = [item.item_id for item in items]

    def read(self, user_id):
        items = self._lists.get(user_id)
        return [item.item_id for item in self._ranker.default(k=50)] if items is None and self._events else items or []


def test_lists_of_the_shop_are_nearly_as_good_as_ten_lines_of_code_that_know_every_event(new_trainer):
    torch.set_num_threads(1)
    shop = SimulatedShop(1, users=USERS, days=DAYS)
    pipeline = Pipeline(new_trainer(hide_seen=True))
    category_of = {item.item_id: item.category for item in shop.items}
    yardstick = PopularInCategories(hide_seen=True, sequence_length=50, category_of=category_of)
    popularity = RecentPopularity(hide_seen=True, sequence_length=50)
    visits = list(shop.visits())
    gone, day, scored, hits, yardstick_hits, popular_hits, best_hits = set(), 0, 0, 0, 0, 0, 0
    for visit in visits:
        today = (visit.time_ms - visits[0].time_ms) // DAY_MS
        if today > day:
            day = today
            pipeline.learn()
            pipeline.make_lists(
                {each.user_id for each in visits if (each.time_ms - visits[0].time_ms) // DAY_MS == day}
            )
        for item in visit.appeared:
            pipeline.put(item, available=True)
        for item in visit.died:
            pipeline.put(item, available=False)
            yardstick.withdraw(item.item_id)
            gone.add(item.item_id)
        shown = [item_id for item_id in pipeline.read(visit.user_id) if item_id not in gone]
        best = shop.best_list(visit, HIT_AT)
        events = shop.answer(visit, shown)
        if today >= SCORED_FROM_DAY:
            for event in (event for event in events if event.organic):
                item_id = event.item.item_id
                scored += 1
                hits += item_id in shown[:HIT_AT]
                best_hits += item_id in best
                yardstick_hits += yardstick.ranks(visit.user_id, item_id)[0] < HIT_AT
                popular_hits += popularity.would_hit(visit.user_id, item_id, k=HIT_AT)
        for event in events:
            for baseline in (yardstick, popularity):
                baseline.learn_one(visit.user_id, event.item.item_id, event.event_time_ms)
        if events:
            pipeline.handle(visit.user_id, events)

    assert scored > 1_000
    assert hits >= 0.85 * yardstick_hits > 0
    assert hits >= 4 * popular_hits.max()
    assert best_hits > max(hits, yardstick_hits)
