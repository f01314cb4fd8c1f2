"""Lists that were made too early are made again: one click, then a replay, then quiet."""

from __future__ import annotations

import random

from streamrec.adapters.redis.list_marks import RedisListMarks

USERS, ITEMS, EVENTS = 300, 400, 6_000


def clicks():
    rng = random.Random(1)
    for n in range(EVENTS):
        yield {
            "user_id": f"u{rng.randrange(USERS)}",
            "item_id": f"i{min(int(rng.paretovariate(0.6)), ITEMS)}",
            "event_time_ms": 1_760_000_000_000 + n * 1_000,
        }


def test_one_click_then_a_replay_then_quiet_leaves_no_short_list_and_no_old_one(pipeline):
    marks = RedisListMarks(pipeline.settings.require_redis_url())
    pipeline.start("interests", "trainer", "recall")
    pipeline.produce("clicks", [{"user_id": "first", "item_id": "i1", "event_time_ms": 1_759_000_000_000}])
    pipeline.wait(lambda: (topk := pipeline.reader.read("first")) and topk.user_id, "the first list")
    pipeline.wait(lambda: marks.facts().version, "the first version")
    pipeline.produce("clicks", clicks())
    pipeline.wait_until_folded()
    users = [*pipeline.ledger().states]

    def unfinished():
        facts = marks.facts()
        lists = pipeline.reader.read_many(users)
        return [
            topk.user_id
            for topk in lists
            if not topk.user_id
            or len(topk.items) < pipeline.settings.top_k
            or topk.model_version != facts.version
            or facts.lacking
        ]

    def is_done():
        facts = marks.facts()
        census = marks.count(facts)
        left = unfinished()
        says_healthy = facts.events > EVENTS // 2 and not census.waiting and not facts.lacking and facts.quiet
        assert not (says_healthy and left), f"{census} although {len(left)} lists are not the best"
        return not left

    pipeline.wait(is_done, "all lists to be made again")
    facts = marks.facts()
    assert marks.count(facts).waiting == 0
    assert facts.events == EVENTS + 1
