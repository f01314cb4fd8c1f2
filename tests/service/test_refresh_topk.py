"""Interest states become lists, the newest of each user only."""

from __future__ import annotations

import json

import msgspec
import pytest
from builders import NOW_MS, batch, part
from list_doubles import MemoryTopKStore
from refresh_bench import SOURCE, Bench, interest

from streamrec.contracts.derived import TopKList
from streamrec.errors import TransientError
from streamrec.service.list_aging import hide
from streamrec.service.list_marks import Knowledge, Made
from streamrec.service.record_size import size_of


@pytest.fixture
def bench():
    return Bench()


def test_lists_go_to_kafka_and_to_the_store(bench):
    assert bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")]))) == {SOURCE: 1}

    stored = bench.store.read("u1")
    published = json.loads(bench.publisher.of("recommendations")[0].value)
    assert published["list_id"] == stored.list_id
    assert stored.items.ids == ["a"]
    assert (stored.event_time_ms, stored.model_version, stored.arm) == (NOW_MS + 1, "counting", "personal")


def test_of_many_states_of_a_user_only_the_newest_is_computed(bench):
    values = [interest("u1", "a", version=1), interest("u1", "c", version=3), interest("u1", "b", version=2)]
    bench.refresh.handle(batch(part("user-interests", values)))

    assert bench.ranker.ranked == ["u1"]
    assert bench.store.read("u1").state_version == 3


def test_an_older_state_never_replaces_a_newer_list(bench):
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "b", version=2)], partition=0)))
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a", version=1)], partition=1)))

    assert bench.store.read("u1").state_version == 2


def test_a_redelivered_batch_answers_the_position(bench):
    work = batch(part("user-interests", [interest("u1", "a")]))
    bench.refresh.handle(work)
    assert bench.refresh.handle(work) == {SOURCE: 1}


def test_the_same_state_makes_a_list_of_the_same_name():
    first, second = Bench(), Bench()
    second.clock.now_ms += 5_000
    for each in (first, second):
        each.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))
    assert first.store.read("u1").list_id == second.store.read("u1").list_id


def test_the_position_stays_until_the_broker_has_the_lists(bench):
    bench.publisher.failures = 1
    work = batch(part("user-interests", [interest("u1", "a")]))
    with pytest.raises(TransientError):
        bench.refresh.handle(work)
    assert bench.store.positions([SOURCE]) == {}
    assert bench.refresh.handle(work) == {SOURCE: 1}
    assert len(bench.publisher.of("recommendations")) == 1


def test_lists_are_published_once_however_long_the_store_is_away(bench):
    put_lists, failures = bench.store.put_lists, [TransientError("away")] * 3

    def away_at_first(*args):
        if failures:
            raise failures.pop()
        return put_lists(*args)

    bench.store.put_lists = away_at_first
    work = batch(part("user-interests", [interest("u1", "a")]))
    for _ in range(3):
        with pytest.raises(TransientError):
            bench.refresh.handle(work)
    assert bench.refresh.handle(work) == {SOURCE: 1}
    assert len(bench.publisher.of("recommendations")) == 1
    assert bench.store.read("u1").state_version == 1


def test_lists_are_stored_while_they_are_on_their_way_to_the_broker(bench):
    stored = []
    bench.publisher.start = lambda _records: bench.publisher
    bench.publisher.wait = lambda: stored.append((bench.store.read("u1"), bench.store.positions([SOURCE])))
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))
    ((topk, positions),) = stored
    assert (topk.items.ids, positions) == (["a"], {})


def test_a_user_nobody_knows_gets_the_default_list(bench):
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))
    default = bench.store.read("nobody")
    assert default.items.ids == ["a"]
    assert default.user_id == ""


def test_the_default_list_is_made_anew_at_most_so_often_and_after_a_burst(bench):
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))
    bench.refresh.handle(batch(part("user-interests", [interest("u2", "b", version=2)], start=1)))
    assert bench.store.read("nobody").items.ids == ["a"]

    bench.refresh.refresh_default()
    assert set(bench.store.read("nobody").items.ids) == {"a", "b"}


def test_the_default_list_is_made_anew_when_a_new_version_comes_after_the_last_event(bench):
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))
    bench.ranker.model_version = "the same"
    bench.refresh.learn(batch(part("model-updates", [b"half a version"])))
    bench.refresh.refresh_default()
    assert bench.store.read("nobody").model_version == "counting"

    bench.ranker.apply_update = lambda value: setattr(bench.ranker, "model_version", value.decode())
    bench.refresh.learn(batch(part("model-updates", [b"another"])))
    bench.refresh.refresh_default()
    assert bench.store.read("nobody").model_version == "another"


def test_a_list_names_the_version_that_was_there_when_it_was_begun(bench):
    rank = bench.ranker.rank

    def rank_while_another_version_comes(interests, *, k):
        lists = rank(interests, k=k)
        bench.ranker.model_version = "later"
        return lists

    bench.ranker.rank = rank_while_another_version_comes
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))
    assert bench.store.read("u1").model_version == "counting"


def test_what_is_new_in_an_older_state_of_the_same_batch_counts_too(bench):
    ranked = []
    bench.ranker.rank = lambda interests, *, k: ranked.extend(interests) or [bench.ranker.default(k=k)]
    states = [interest("u1", "a"), interest("u1", "b", version=2)]
    bench.refresh.handle(batch(part("user-interests", states)))
    assert [(one.state_version, [position.offset for position in one.new]) for one in ranked] == [(2, [1, 2])]


def test_the_control_arm_gets_popular_items():
    bench = Bench(arm_of=lambda user_id: "control" if user_id == "u1" else "personal")
    called = []
    bench.ranker.popular = lambda interests, *, k: called.extend(interests) or [bench.ranker.default(k=k)]
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a"), interest("u2", "b", version=2)])))

    assert [one.user_id for one in called] == ["u1"]
    assert (bench.store.read("u1").arm, bench.store.read("u2").arm) == ("control", "personal")


class AwayStore(MemoryTopKStore):
    """Does not answer to some calls, each as often as it says; with `lost_replies` it has moved all the same."""

    def __init__(self):
        super().__init__()
        self.away = {"put_lists": 0, "advance": 0, "put_default": 0}
        self.lost_replies = 0

    def _answer(self, call):
        if self.away[call]:
            self.away[call] -= 1
            raise TransientError("READONLY You can't write against a read only replica.")

    def put_lists(self, lists, slices):
        self._answer("put_lists")
        return super().put_lists(lists, slices)

    def advance(self, slices, marks):
        self._answer("advance")
        moved = super().advance(slices, marks)
        if self.lost_replies:
            self.lost_replies -= 1
            raise TransientError("the connection broke before the reply")
        return moved

    def put_default(self, default):
        self._answer("put_default")
        super().put_default(default)


@pytest.mark.parametrize("call", ["put_lists", "advance"])
def test_nothing_is_published_again_while_only_the_write_fails(call):
    bench = Bench(store=AwayStore())
    bench.store.away[call] = 10
    work = batch(part("user-interests", [interest("u1", "a"), interest("u2", "b")]))
    for _ in range(10):
        with pytest.raises(TransientError, match="READONLY"):
            bench.refresh.handle(work)

    assert bench.refresh.handle(work) == {SOURCE: 2}
    assert len(bench.publisher.records) == 2


def test_a_position_that_moved_without_an_answer_publishes_nothing_again():
    bench = Bench(store=AwayStore())
    bench.store.lost_replies = 1
    work = batch(part("user-interests", [interest("u1", "a")]))
    with pytest.raises(TransientError, match="before the reply"):
        bench.refresh.handle(work)

    assert bench.refresh.handle(work) == {SOURCE: 1}
    assert len(bench.publisher.records) == 1


def test_a_default_list_that_cannot_be_stored_does_not_make_the_batch_again():
    bench = Bench(store=AwayStore())
    bench.store.away["put_default"] = 1
    assert bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")]))) == {SOURCE: 1}
    assert bench.store.read("nobody") is None

    bench.refresh.refresh_default()
    assert bench.store.read("nobody") is not None
    assert len(bench.publisher.records) == 1


def test_a_list_that_does_not_fit_its_topic_loses_its_last_items(bench):
    bench.publisher.rooms["recommendations"] = 1_200
    bench.ranker.counts.update({f"{n}-{'ü' * 100}": 100 - n for n in range(10)})
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))

    (record,) = bench.publisher.records
    made = json.loads(record.value)
    assert size_of(record) <= 1_200
    assert [item_id[:2] for item_id in made["items"]["ids"]] == ["0-", "1-", "2-", "3-"][: len(made["items"]["ids"])]
    assert 0 < len(made["items"]["ids"]) < 10
    assert bench.store.read("u1").items.ids == made["items"]["ids"]
    assert bench.refresh.tally.shortened == {"recommendations": 1}


def test_a_clock_that_jumps_back_does_not_stop_the_default_list(bench):
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))
    bench.clock.now_ms -= 3_600_000
    bench.monotonic_s += 1
    bench.refresh.handle(batch(part("user-interests", [interest("u2", "b", version=2)], start=1)))
    assert set(bench.store.read("nobody").items.ids) == {"a", "b"}
    assert bench.store.read("nobody").made_at_ms == bench.clock.now_ms


def test_each_list_is_marked_with_what_its_version_lacked(bench):
    bench.ranker.knowledge = Knowledge("v1", 10_000, {0: 3})
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a"), interest("u2", "b", version=2)])))
    assert bench.store.marks.newest(Made.BEHIND, 9) == ["u2", "u1"]
    assert bench.store.marks.newest(Made.POOR, 9) == []
    assert bench.store.marks.short(9, below=3) == ["u2", "u1"]

    bench.ranker.knowledge = Knowledge("v1", 10, {0: 3})
    values = [interest("u2", "b", version=3)] * 100
    bench.refresh.handle(batch(part("user-interests", values, start=2)))
    assert bench.store.marks.newest(Made.BEHIND, 9) == ["u1"]
    assert bench.store.marks.newest(Made.POOR, 9) == ["u2"]


@pytest.mark.parametrize("hide_seen", [True, False])
def test_a_list_says_what_it_hides_where_it_hides_anything(bench, hide_seen):
    bench.ranker.hide_seen = hide_seen
    seen = msgspec.json.decode(interest("u1", "a")) | {"seen_before": ["b", "a"]}
    bench.refresh.handle(batch(part("user-interests", [msgspec.json.encode(seen)])))
    (record,) = bench.publisher.of("recommendations")
    hidden = msgspec.json.decode(record.value, type=TopKList).hidden
    assert hidden == (hide(["a", "b"]) if hide_seen else b"")
    assert (b'"hidden"' in record.value) == hide_seen
