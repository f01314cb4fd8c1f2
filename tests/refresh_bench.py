"""The use case that makes lists, over stores in memory, and what it is given."""

from __future__ import annotations

import msgspec
from builders import NOW_MS
from doubles import MemoryPublisher
from list_doubles import CountingRanker, MemoryTopKStore

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.domain.interest import SequenceEvent
from streamrec.service.batch import TopicPartition
from streamrec.service.make_lists import ListMaker
from streamrec.service.refresh_topk import RefreshTopK

SOURCE = TopicPartition("user-interests", 0)


class Clock:
    now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


class Bench:
    """The use case with its surroundings."""

    def __init__(self, arm_of=lambda _user_id: "personal", store=None):
        self.store, self.publisher, self.ranker, self.clock = (
            store or MemoryTopKStore(),
            MemoryPublisher(),
            CountingRanker(),
            Clock(),
        )
        self.monotonic_s = 0.0
        maker = ListMaker(self.ranker, top_k=10, arm_of=arm_of, now_ms=self.clock)
        self.again = lambda: RefreshTopK(self.store, self.publisher, maker, monotonic_s=lambda: self.monotonic_s)
        self.refresh = self.again()
        self.refresh.mark_all()


def interest(user_id, item_id, *, version=1):
    return msgspec.json.encode(
        UserInterest(
            user_id=user_id,
            state_version=version,
            event_time_ms=NOW_MS + version,
            produced_at_ms=NOW_MS + version,
            sequence=[SequenceEvent(NOW_MS, 0, 0, version, item_id, "")],
            new=[EventPosition(0, 0, version)],
            short_term={},
            long_term={},
            long_term_items={},
            transitions=[],
            events_count=version,
        )
    )
