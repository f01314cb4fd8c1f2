"""A size that is checked where a record leaves: what `user-interests` does not take is left out of the sequence."""

from __future__ import annotations

import json

import pytest
from builders import NOW_MS, batch, click, part
from doubles import MemoryInterestStore, MemoryPublisher

from streamrec.domain.interest import FoldRules
from streamrec.service.batch import TopicPartition
from streamrec.service.fold_interests import FoldInterests
from streamrec.service.record_size import size_of

CLICKS = TopicPartition("clicks", 0)
LONG = {"plain": "x" * 250, "unicode": "𝄞" * 250, "escaped": "\x01" * 250}


@pytest.fixture
def publisher():
    return MemoryPublisher()


def interests(publisher):
    return [json.loads(record.value) for record in publisher.of("user-interests")]


@pytest.mark.parametrize("kind", LONG)
def test_a_state_that_does_not_fit_in_a_record_is_published_without_its_oldest_events(kind, publisher):
    store = MemoryInterestStore()
    fold = FoldInterests(store, publisher, FoldRules(1_000))
    events = [click("u1", f"{n:06}{LONG[kind]}", NOW_MS - 2_000 + n, category=LONG[kind]) for n in range(1_000)]
    for start in range(0, 1_000, 500):
        assert fold.handle(batch(part("clicks", events[start : start + 500], start=start)))
    publisher.rooms["user-interests"] = 300_000
    fold.handle(batch(part("clicks", [click("u1", "newest", NOW_MS)], start=1_000)))

    record, interest = publisher.of("user-interests")[-1], interests(publisher)[-1]
    assert 290_000 < size_of(record) <= 300_000
    stored = store.states["u1"].sequence
    assert len(stored) == 1_000, "the state itself is whole"
    assert interest["sequence"] == [[*event[:6], []] for event in stored[-len(interest["sequence"]) :]]
    assert interest["new"] == [[0, 0, 1_000]]
    assert (interest["events_count"], interest["state_version"]) == (1_001, store.states["u1"].content_version)
    assert fold.tally.shortened == {"user-interests": 1}


def test_what_fits_is_published_whole_and_not_counted(publisher):
    fold = FoldInterests(MemoryInterestStore(), publisher, FoldRules(50))
    fold.handle(batch(part("clicks", [click("u1", f"i{n}", NOW_MS + n) for n in range(60)])))

    assert len(interests(publisher)[0]["sequence"]) == 50
    assert not fold.tally.shortened


def test_new_events_beyond_the_room_are_named_and_not_in_the_sequence(publisher):
    publisher.rooms["user-interests"] = 20_000
    fold = FoldInterests(MemoryInterestStore(), publisher, FoldRules(1_000))
    fold.handle(batch(part("clicks", [click("u1", "x" * 250, NOW_MS - 1_000 + n) for n in range(100)])))

    (interest,) = interests(publisher)
    assert interest["new"] == [[0, 0, offset] for offset in range(100)]
    assert interest["sequence"][-1][3] == 99
    assert len(interest["sequence"]) < 100


def test_items_seen_before_are_left_out_last(publisher):
    publisher.rooms["user-interests"] = 5_000
    store = MemoryInterestStore()
    fold = FoldInterests(store, publisher, FoldRules(2, keep_seen=True))
    for n in range(40):
        fold.handle(batch(part("clicks", [click("u1", f"{n:03}" + "x" * 250, NOW_MS + n)], start=n)))

    assert len(store.states["u1"].seen_before()) == 38
    assert all(size_of(record) <= 5_000 for record in publisher.of("user-interests"))
    assert interests(publisher)[-1]["sequence"][-1][3] == 39


def test_what_is_left_out_of_a_record_stays_hidden(publisher):
    fold = FoldInterests(MemoryInterestStore(), publisher, FoldRules(1_000))
    disliked = [click("u1", f"d{n}", NOW_MS - 2_000 + n, type="dislike") for n in range(3)]
    clicks = [click("u1", f"{n:06}{LONG['plain']}", NOW_MS - 1_000 + n) for n in range(100)]
    publisher.rooms["user-interests"] = 20_000
    fold.handle(batch(part("feedback", disliked), part("clicks", clicks)))

    (interest,) = interests(publisher)
    assert len(interest["sequence"]) < 100
    assert interest["disliked_before"] == ["d0", "d1", "d2"]
    assert size_of(publisher.of("user-interests")[0]) <= 20_000


def test_transitions_do_not_lead_to_what_the_user_dislikes(publisher):
    fold = FoldInterests(MemoryInterestStore(), publisher, FoldRules(10))
    events = [click("u1", f"i{n}", NOW_MS - 100 + n, category=category) for n, category in enumerate("ab")]
    fold.handle(batch(part("clicks", events)))
    fold.handle(batch(part("feedback", [click("u1", "d", NOW_MS - 50, type="dislike", category="c")])))

    assert interests(publisher)[-1]["transitions"] == [["a", "b", 1]]
