"""Lists that nobody makes again: marks say which ones, and the background makes them again, newest users first."""

from __future__ import annotations

import pytest
from builders import NOW_MS
from rebuild_bench import K

from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import FoldRules, InterestState
from streamrec.errors import TransientError
from streamrec.service.list_marks import TOLERATED_EVENTS, Facts, Knowledge, Made, is_tolerable, lacking
from streamrec.service.rebuild_lists import BUSY_BATCH, LOOK_S, PATIENCE_S, QUIET_S


def test_a_list_that_was_short_is_made_again_as_soon_as_more_items_are_known(bench):
    bench.learn(0)
    bench.act("u1")
    assert len(bench.store.read("u1").items) == 1
    bench.run(LOOK_S)
    assert bench.again_for == [], "all items that are known are in it"

    bench.ranker.counts.update("bcdef")
    bench.run(2 * LOOK_S)

    assert len(bench.store.read("u1").items) == K
    assert bench.again_for == ["u1"]
    assert bench.rebuild.census.waiting == 0


def test_a_list_stays_marked_short_in_a_shop_of_few_items_and_nothing_waits(bench):
    bench.act("u1")
    bench.learn(1)
    bench.run(60.0)
    assert bench.rebuild.census.all_short == 1
    assert bench.rebuild.census.waiting == 0
    assert len(bench.again_for) == 1, "once for the version that has learned everything"


def test_after_the_stream_every_list_is_made_again_by_the_version_that_has_learned_all(bench):
    bench.learn(0)
    users = [f"u{number}" for number in range(300)]
    for start in range(0, 300, 50):
        bench.act(*users[start : start + 50])
    bench.learn(100, contains={0: 100})
    bench.run(QUIET_S + 2 * LOOK_S)
    assert bench.again_for == [], "the trainer is about to learn the rest"
    assert bench.rebuild.census.poor > 0

    bench.learn(300)
    bench.run(2 * LOOK_S + 2)

    assert {bench.store.read(user_id).model_version for user_id in users} == {"v300"}
    assert bench.rebuild.census.waiting == 0
    published = len(bench.again_for)
    bench.run(60.0)
    assert len(bench.again_for) == published == 300, "an idle system is idle"


def test_newest_users_come_first(bench):
    bench.learn(0)
    users = [f"u{number:03}" for number in range(200)]
    for user_id in users:
        bench.act(user_id)
    bench.learn(200)
    bench.run(QUIET_S + 3 * LOOK_S)
    once = dict.fromkeys(bench.again_for)
    poor = [user_id for user_id in once if user_id >= f"u{TOLERATED_EVENTS + 1:03}"]
    assert poor == sorted(poor, reverse=True)
    assert set(bench.again_for) == set(users)


def test_nothing_says_done_before_all_is_done(bench):
    """Lists that lacked a little are made again first: what waits is the last to go."""
    bench.learn(0)
    users = [f"u{number}" for number in range(200)]
    for user_id in users:
        bench.act(user_id)
    bench.learn(200)
    while bench.rebuild.census.waiting or not bench.rebuild.facts.quiet:
        bench.s += max(0.05, bench.rebuild.step())
    bench.run(LOOK_S)
    assert {bench.store.read(user_id).model_version for user_id in users} == {"v200"}


def test_a_list_is_made_again_when_the_history_has_doubled_since(bench):
    bench.act("u1")
    bench.learn(1)
    bench.run(QUIET_S + 2 * LOOK_S)
    assert bench.again_for == ["u1"]

    bench.learn(10 * TOLERATED_EVENTS)
    bench.run(2 * LOOK_S)

    assert bench.again_for == ["u1", "u1"]
    assert bench.store.read("u1").model_version == f"v{10 * TOLERATED_EVENTS}"


def test_in_a_busy_stream_with_a_mature_version_nothing_is_made_again(bench):
    for number in range(100):
        bench.learn(1_000_000 + number, contains={0: max(0, bench.offset - 20)})
        bench.act(f"u{number % 10}")
        bench.run(0.5)
    assert bench.again_for == []
    assert bench.rebuild.census.waiting == 0


def test_what_waits_is_made_again_slowly_while_events_arrive(bench):
    bench.learn(0)
    for number in range(200):
        bench.act(f"u{number}")
    bench.learn(1_000)
    for _ in range(100):
        bench.act("busy")
        bench.learn(1_000)
        bench.run(0.2)
    assert bench.rebuild.census.poor == 0
    assert bench.rebuild.step() > 0


def test_an_older_release_of_the_trainer_that_says_nothing_leaves_nothing_waiting(bench):
    bench.ranker.knowledge = Knowledge("old")
    for number in range(200):
        bench.act(f"u{number}")
    bench.run(QUIET_S + 2 * LOOK_S)
    assert bench.rebuild.census.waiting == 0


def test_a_trainer_that_lacks_little_for_long_is_waited_for_only_so_long(bench):
    bench.learn(0)
    for number in range(100):
        bench.act(f"u{number}")
    bench.learn(99, contains={0: 99})
    bench.run(PATIENCE_S + 3 * LOOK_S)
    assert bench.rebuild.census.poor == 0


def test_a_list_that_was_made_again_has_its_name_its_state_and_its_time(bench):
    bench.act("u1")
    before = bench.store.read("u1")
    bench.learn(1)
    bench.run(QUIET_S + 2 * LOOK_S)
    after = bench.store.read("u1")
    assert after.rebuilt
    assert not before.rebuilt
    for name in ("list_id", "state_version", "event_time_ms", "produced_at_ms"):
        assert getattr(after, name) == getattr(before, name)


def test_nothing_is_lost_while_the_broker_is_unavailable(bench):
    bench.act("u1")
    bench.learn(1)
    bench.s += LOOK_S
    bench.rebuild.step()
    bench.publisher.failures = 1
    with pytest.raises(TransientError):
        bench.run(QUIET_S + 2 * LOOK_S)
    bench.run(2 * LOOK_S)
    assert bench.again_for == ["u1"]


def test_marks_outlive_the_process(bench):
    bench.learn(0)
    for number in range(100):
        bench.act(f"u{number}")
    bench.learn(100)
    bench.rebuild = bench.again()
    bench.run(QUIET_S + 3 * LOOK_S)
    assert {bench.store.read(f"u{number}").model_version for number in range(100)} == {"v100"}


def test_a_restart_does_not_make_lists_wait_anew(bench):
    bench.learn(0)
    bench.act(*[f"u{number}" for number in range(100)])
    bench.run(LOOK_S)
    bench.maker.now_ms = lambda: NOW_MS + 60_000
    bench.rebuild = bench.again()
    bench.run(LOOK_S)
    assert bench.rebuild.census.waiting
    assert bench.rebuild.facts.waiting_since_ms == bench.store.marks.facts().waiting_since_ms == NOW_MS


def test_a_worker_that_has_read_nothing_yet_waits_for_the_first_version(bench):
    bench.ranker.knowledge = Knowledge("", 0, {})
    for number in range(100):
        bench.act(f"u{number}")
    bench.refresh.ends.clear()
    bench.rebuild = bench.again()
    bench.ranker.counts.update("bcdef")
    bench.run(QUIET_S + 3 * LOOK_S)

    assert bench.rebuild.census.poor > 0
    assert bench.rebuild.census.short == 0
    assert all(len(bench.store.read(f"u{number}").items) == K for number in range(100))
    bench.learn(100)
    bench.run(QUIET_S + 3 * LOOK_S)
    assert {bench.store.read(f"u{number}").model_version for number in range(100)} == {"v100"}
    assert bench.rebuild.census.waiting == 0


def test_a_user_whose_state_has_expired_is_dropped(bench):
    bench.act("u1")
    bench.states.states.clear()
    bench.learn(1)
    bench.run(QUIET_S + 2 * LOOK_S)
    assert bench.again_for == []
    assert bench.store.marks.newest(Made.BEHIND, BUSY_BATCH) == []


def test_a_state_that_is_older_than_its_list_makes_no_list_and_no_endless_work(bench):
    bench.act("u1")
    bench.act("u1")
    before = bench.store.read("u1").state_version
    bench.states.states["u1"] = InterestState()
    bench.states.states["u1"].fold(Event("u1", "z", NOW_MS, Source(EventType.CLICK, 0), 9), FoldRules(50))
    bench.learn(2)
    bench.run(QUIET_S + 2 * LOOK_S)
    assert bench.again_for == []
    assert bench.store.read("u1").state_version == before
    assert bench.store.marks.newest(Made.BEHIND, BUSY_BATCH) == []


def test_a_list_that_is_made_while_another_one_is_made_again_is_not_complete(bench):
    bench.act("u1")
    bench.learn(1)
    publish = bench.publisher.publish

    def publish_while_the_user_acts(records):
        publish(records)
        bench.publisher.publish = publish
        bench.act("u1")

    bench.publisher.publish = publish_while_the_user_acts
    bench.s += LOOK_S
    bench.rebuild.step()
    bench.s += QUIET_S
    bench.rebuild.step()
    assert bench.store.marks.newest(Made.COMPLETE, 9) == []
    assert bench.store.marks.newest(Made.BEHIND, 9) == ["u1"]


def test_the_facts_say_what_the_marks_mean(bench):
    bench.act("u1", "u2")
    bench.ranker.others = 40
    bench.learn(1, contains={0: 1})
    bench.run(LOOK_S)
    facts = bench.store.marks.facts()
    assert facts == Facts(
        version="v1", events=1, lacking=1, known_items=1, other_items=40, top_k=K, waiting_since_ms=NOW_MS, rollbacks=0
    )


def test_what_is_lacking_counts_by_partition_and_stands_for_those_that_others_read():
    knowledge = Knowledge("v", 10, {0: 5, 1: 5})
    assert lacking(knowledge, {0: 9, 1: 2}) == 4
    assert lacking(knowledge, {0: 9}) == 8
    assert lacking(Knowledge("", 0, {}), {0: 9, 3: 1}) == 10
    assert is_tolerable(0, TOLERATED_EVENTS)
    assert not is_tolerable(0, TOLERATED_EVENTS + 1)
    assert is_tolerable(1_000_000, 10_000)
