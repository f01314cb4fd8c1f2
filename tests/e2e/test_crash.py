"""Whatever is stopped or killed, the stores end equal to a pure fold of the log."""

from __future__ import annotations

import random
import signal
import time

import pytest
from pipeline import stop

from streamrec.adapters.redis.client import connect

USERS, ITEMS, EVENTS = 300, 100, 6_000


def events(seed):
    """Clicks and purchases of a few users, a hundredth of them sent twice and a hundredth broken."""
    rng = random.Random(seed)
    start_ms = time.time_ns() // 1_000_000 - EVENTS * 1_000
    for n in range(EVENTS):
        event = {
            "user_id": f"u{rng.randrange(USERS)}",
            "item_id": f"i{int(rng.paretovariate(1.0)) % ITEMS}",
            "event_time_ms": start_ms + n * 1_000 + rng.randrange(-60_000, 1_000),
            "event_id": f"e{n}",
            "category": f"c{rng.randrange(5)}",
        }
        topic = "purchases" if rng.random() < 0.1 else "clicks"
        yield topic, event
        if rng.random() < 0.01:
            yield topic, event
        if rng.random() < 0.01:
            yield topic, b"{broken"


def produce_all(pipeline, seed):
    """Everything at once: faults then strike while there is lag."""
    by_topic = {"clicks": [], "purchases": []}
    for topic, event in events(seed):
        by_topic[topic].append(event)
    for topic, values in by_topic.items():
        pipeline.produce(topic, values)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_stopping_interests_in_mid_stream_changes_nothing(pipeline, how):
    for seed in (1, 2, 3):
        produce_all(pipeline, seed)
        sources = list(pipeline.ledger().ends)
        before = sum(pipeline.store.positions(sources).values())
        (process,) = pipeline.start("interests")
        pipeline.wait(
            lambda sources=sources, before=before: sum(pipeline.store.positions(sources).values()) > before,
            "some progress of this one",
        )
        code = stop(process, how)
        assert code == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    pipeline.start("interests")
    pipeline.wait_until_folded()

    verdict = pipeline.judge()
    assert verdict.clean, verdict.notes


def test_a_zombie_that_writes_changes_nothing(pipeline):
    """A worker sleeps past its session, another one takes over, and the first wakes up with a batch in its hands."""
    produce_all(pipeline, seed=2)
    sources = list(pipeline.ledger().ends)
    (zombie,) = pipeline.start("interests")
    pipeline.wait(lambda: sum(pipeline.store.positions(sources).values()) > 0, "some progress")
    zombie.send_signal(signal.SIGSTOP)
    pipeline.start("interests")
    pipeline.wait_until_folded()
    zombie.send_signal(signal.SIGCONT)
    produce_all(pipeline, seed=3)
    pipeline.wait_until_folded()

    verdict = pipeline.judge()
    assert verdict.clean, verdict.notes


def test_what_redis_forgets_of_a_quiet_partition_is_folded_again_while_others_are_busy(pipeline):
    redis = connect(pipeline.settings.require_redis_url())
    pipeline.start("interests")
    produce_all(pipeline, seed=6)
    pipeline.wait_until_folded()
    before = {key: redis.get(key) for key in redis.scan_iter()}
    now_ms = time.time_ns() // 1_000_000
    quiet = {"user_id": "quiet", "item_id": "i", "event_time_ms": now_ms}
    pipeline.produce("purchases", [quiet])
    pipeline.wait_until_folded()
    redis.flushall()
    redis.mset(before)

    def folded():
        pipeline.produce("clicks", [quiet | {"user_id": "busy"}])  # never a second without a record
        return pipeline.store.load(["quiet"], []).states["quiet"].sequence

    pipeline.wait(folded, "the purchase to be folded again")
    verdict = pipeline.judge()
    assert verdict.state_mismatches == 0, verdict.notes


def test_what_redis_forgets_is_folded_again_without_a_further_event(pipeline):
    """Redis comes back without its newest writes, as after a crash, then empty, when the stream is already quiet."""
    redis = connect(pipeline.settings.require_redis_url())
    pipeline.start("interests")
    produce_all(pipeline, seed=4)
    pipeline.wait_until_folded()
    before = {key: redis.get(key) for key in redis.scan_iter()}
    produce_all(pipeline, seed=5)
    pipeline.wait_until_folded()
    for what_is_left in (before, {}):
        redis.flushall()
        if what_is_left:
            redis.mset(what_is_left)
        pipeline.wait_until_folded()

        verdict = pipeline.judge()
        assert verdict.clean, verdict.notes
