"""Lists that are made, and made again in the background, over stores in memory."""

from __future__ import annotations

import msgspec
from builders import NOW_MS, batch, part
from doubles import MemoryInterestStore, MemoryPublisher
from list_doubles import CountingRanker, MemoryTopKStore

from streamrec.contracts.derived import TopKList
from streamrec.contracts.model_update import Rollbacks
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import FoldRules, InterestState
from streamrec.service.interest_record import Changed, user_interest
from streamrec.service.list_marks import Knowledge
from streamrec.service.make_lists import ListMaker
from streamrec.service.rebuild_lists import RebuildLists
from streamrec.service.refresh_topk import RefreshTopK

K = 3


class Bench:
    """Both use cases over one store, with clocks of their own."""

    def __init__(self):
        self.store, self.states, self.publisher = MemoryTopKStore(), MemoryInterestStore(), MemoryPublisher()
        self.ranker, self.s = CountingRanker(), 1_000.0
        self.maker = ListMaker(self.ranker, top_k=K, arm_of=lambda _: "personal", now_ms=lambda: NOW_MS)
        self.refresh = RefreshTopK(self.store, self.publisher, self.maker, monotonic_s=lambda: self.s)
        self.rebuild = self.again()
        self.offset = 0

    def again(self):
        return RebuildLists(
            self.store,
            self.states,
            self.publisher,
            self.maker,
            ends=lambda: self.refresh.ends,
            monotonic_s=lambda: self.s,
        )

    def learn(self, events, *, contains=None, rollbacks=(0, 0)):
        """Let a version serve that has learned so many events, by default all records so far."""
        contains = {0: self.offset} if contains is None else contains
        self.ranker.knowledge = Knowledge(f"v{events}", events, contains, rollbacks and Rollbacks(*rollbacks))
        self.ranker.model_version = f"v{events}"

    def act(self, *users, item_id="a"):
        """Let users act at the same time, and make their lists."""
        values = []
        for number, user_id in enumerate(users):
            state = self.states.states.setdefault(user_id, InterestState())
            at_ms = NOW_MS + self.offset + number
            event = Event(user_id, item_id, at_ms, Source(EventType.CLICK, 0), self.offset + number)
            state.fold(event, FoldRules(50))
            values.append(msgspec.json.encode(user_interest(user_id, state, Changed(produced_at_ms=at_ms))))
        self.refresh.handle(batch(part("user-interests", values, start=self.offset)))
        self.offset += len(users)

    def run(self, seconds):
        """Let time pass in the background."""
        end_s = self.s + seconds
        while self.s < end_s:
            self.s += max(0.05, min(self.rebuild.step(), end_s - self.s))

    @property
    def again_for(self):
        """Whose lists were published as made again, in order."""
        lists = [msgspec.json.decode(record.value, type=TopKList) for record in self.publisher.of("recommendations")]
        return [topk.user_id for topk in lists if topk.rebuilt]
