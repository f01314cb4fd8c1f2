"""What the catalogue and the model say reaches the lists, and the store that readers see."""

from __future__ import annotations

import json

import pytest
from builders import NOW_MS, batch, part
from refresh_bench import Bench, interest
from stored_lists import withdraw

from streamrec.errors import TransientError


@pytest.fixture
def bench():
    return Bench()


def test_a_withdrawn_or_deleted_item_leaves_all_lists(bench):
    bench.refresh.handle(batch(part("user-interests", [interest(f"u{n}", item_id) for n, item_id in enumerate("abc")])))
    bench.refresh.learn(batch(part("items", [json.dumps({"item_id": "a", "available": False}).encode()], key=b"a")))
    bench.refresh.learn(batch(part("items", [None], key=b"b")))
    assert bench.store.read("u2").items.ids == ["c"]

    bench.refresh.learn(batch(part("items", [json.dumps({"item_id": "a"}).encode()], key=b"a")))
    assert "a" in bench.store.read("u2").items.ids


def test_a_batch_is_taken_in_once_though_the_store_is_away_at_first(bench):
    """A part of a version that came twice would spoil the version."""
    mark, failures = bench.store.mark_items, [TransientError("Redis: away")] * 2

    def away_at_first(change):
        if failures:
            raise failures.pop()
        mark(change)

    bench.store.mark_items = away_at_first
    withdrawal = part("items", [json.dumps({"item_id": "a", "available": False}).encode()], key=b"a")
    records = batch(part("model-updates", [b"half a version"]), withdrawal)
    for _ in range(2):
        with pytest.raises(TransientError):
            bench.refresh.learn(records)
    bench.refresh.learn(records)
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a"), interest("u2", "b")])))

    assert bench.ranker.updates == [b"half a version"]
    assert bench.store.read("u2").items.ids == ["b"]


def test_marks_wait_until_the_whole_catalogue_was_read(bench):
    def withdrawn(item_id, *, available=False):
        value = json.dumps({"item_id": item_id, "available": available}).encode()
        return batch(part("items", [value], key=item_id.encode()))

    bench.refresh.handle(batch(part("user-interests", [interest(f"u{n}", item_id) for n, item_id in enumerate("abc")])))
    withdraw(bench.store, "a", "b")
    fresh = bench.again()
    fresh.learn(withdrawn("a", available=True))
    assert bench.store.read("u2").items.ids == ["c"], "what it was at first says nothing"
    fresh.learn(withdrawn("a"))
    fresh.mark_all()
    assert bench.store.read("u2").items.ids == ["b", "c"]
    fresh.learn(withdrawn("c"))
    assert bench.store.read("u2").items.ids == ["b"]


def test_a_recreated_catalogue_takes_the_place_of_the_old_one(bench):
    def said(item_id, *, available=False):
        return batch(part("items", [json.dumps({"item_id": item_id, "available": available}).encode()]))

    bench.refresh.handle(batch(part("user-interests", [interest(f"u{n}", item_id) for n, item_id in enumerate("abc")])))
    bench.refresh.mark_all()
    bench.refresh.learn(said("a"))
    bench.refresh.learn(said("b"))
    assert bench.store.read("u2").items.ids == ["c"]

    bench.refresh.forget_catalogue()
    assert bench.ranker.hidden == set()
    bench.refresh.learn(said("b"))
    assert bench.store.read("u2").items.ids == ["c"], "nothing is marked before all was read"
    bench.refresh.mark_all()
    assert bench.store.read("u2").items.ids == ["a", "c"]
    assert bench.ranker.hidden == {"b"}


def test_a_worker_that_has_just_started_makes_a_default_list_of_what_the_version_knows(bench):
    bench.refresh.handle(batch(part("user-interests", [interest("u1", "a")])))
    bench.ranker.model_version, bench.ranker.newest_event_time_ms = "newer", NOW_MS + 1
    fresh = bench.again()
    fresh.learn(batch(part("items", [None], key=b"gone")))
    fresh.refresh_default()
    default = bench.store.read("nobody")
    assert (default.model_version, default.event_time_ms) == ("newer", NOW_MS + 1)


def test_a_bad_item_is_passed_over(bench):
    bench.refresh.learn(batch(part("items", [b"{", json.dumps({"item_id": "a", "available": False}).encode()])))
    assert bench.ranker.hidden == {"a"}


def test_model_updates_reach_the_ranker(bench):
    bench.refresh.learn(batch(part("model-updates", [b"update"])))
    assert bench.ranker.updates == [b"update"]
