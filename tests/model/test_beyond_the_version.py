"""Events and items that the serving version does not know are counted and listed all the same."""

from __future__ import annotations

import msgspec
import numpy as np
from interests import START_MS, fold
from rankers import clicked, first_version, ids, ranker_of, trained

from streamrec.contracts.derived import EventPosition
from streamrec.contracts.incoming import Item
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.model.ranking import beyond
from streamrec.model.ranking.ranker import ModelRanker


def test_items_that_the_version_does_not_know_are_counted_and_listed(new_trainer):
    _, ranker = first_version(new_trainer)
    for number in range(9):
        ranker.rank([clicked(f"n{min(number, 5)}", user_id=f"u{number}", first=10 * number + 1)], k=5)

    for items in (ranker.rank([clicked("x", first=200)], k=5)[0], ranker.default(k=5)):
        assert ids(items)[:2] == ["i0", "n5"], "what the version knows, then the most popular of the others"
        assert len(set(ids(items))) == 5
        assert np.all(np.diff([item.score for item in items]) <= 0)
        assert {item.reason.channel for item in items[1:]} == {"popular"}
    assert ids(ranker.popular([clicked("x", first=300)], k=5)[0])[:2] == ["i0", "n5"]


def test_a_list_is_filled_up_from_the_catalogue(new_trainer):
    _, ranker = first_version(new_trainer)
    for number in range(20):
        ranker.put_item(Item(item_id=f"c{number}"))
    ranker.put_item(Item(item_id="c19", available=False))
    ranker.put_item(Item(item_id="i0"))
    ranker.rank([clicked("n1")], k=5)

    for items in (ranker.rank([clicked("x", first=9)], k=5)[0], ranker.popular([clicked("x", first=9)], k=5)[0]):
        assert ids(items)[:2] == ["i0", "n1"]
        assert ids(items)[-1].startswith("c")
        assert "c19" not in ids(items)
    assert [item.reason.channel for item in ranker.default(k=8)][-1] == "recent"
    assert ranker.vocabulary == (1, 2 + 19)


def test_an_unknown_item_that_is_withdrawn_or_seen_is_in_no_list(new_trainer):
    _, ranker = first_version(new_trainer)
    ranker.rank([clicked("n1", "n2")], k=5)
    ranker.delete_item("n1")
    assert ids(ranker.rank([clicked("n2", first=9)], k=5)[0]) == ["i0"]
    showing = first_version(new_trainer, hide_seen=False)[1]
    assert ids(showing.rank([clicked("n2", first=9)], k=5)[0]) == ["i0", "n2"]


def test_a_new_version_takes_over_what_it_knows(new_trainer):
    trainer, ranker = first_version(new_trainer)
    ranker.put_item(Item(item_id="n1"))
    ranker.put_item(Item(item_id="c1"))
    interest = clicked("n1", "n2", user_id="u9")
    ranker.rank([interest], k=5)
    assert ranker.vocabulary == (1, 3)
    trainer.train([interest], behind=0)
    for record in trainer.take_update():
        ranker.apply_update(record)
    assert ranker.vocabulary == (3, 1)
    assert sorted(ids(ranker.default(k=9))) == ["c1", "i0", "n1", "n2"]


def test_a_new_version_takes_over_items_whose_rows_were_others(new_trainer):
    trainer, ranker = first_version(new_trainer)
    ranker.put_item(Item(item_id="c1"))
    ranker.rank([clicked("c1", "n1", user_id="u9")], k=5)
    trainer.model.items.vocabulary.max_items = 1
    trainer.train([clicked("n1", user_id="u9", first=3)], behind=0)
    for record in trainer.take_update():
        ranker.apply_update(record)

    assert ranker.vocabulary == (1, 1)
    assert ids(ranker.default(k=9)) == ["n1", "c1"]


def test_lists_are_full_from_the_catalogue_before_the_first_version():
    ranker = ModelRanker(hide_seen=True)
    for number in range(5):
        ranker.put_item(Item(item_id=f"c{number}"))
    assert len(ranker.rank([clicked("a", "b")], k=4)[0]) == 4
    assert set(ids(ranker.default(k=9))[:2]) == {"a", "b"}
    assert ranker.vocabulary == (0, 7)


def test_what_is_not_in_a_version_is_bounded(new_trainer, monkeypatch):
    monkeypatch.setattr(beyond, "MAX_COUNTED_ITEMS", 3)
    monkeypatch.setattr(beyond, "MAX_UNTOUCHED_ITEMS", 3)
    _, ranker = first_version(new_trainer)
    for number in range(10):
        ranker.put_item(Item(item_id=f"c{number}"))
        ranker.rank([clicked(f"n{number}", first=number + 1)], k=5)
    assert ranker.vocabulary == (1, 6)


def test_events_count_before_a_version_has_learned_them(new_trainer):
    interests, records = trained(new_trainer())
    ranker = ranker_of(records[:-1])
    rare = min({event.item_id for event in interests[0].sequence}, key=lambda item: item.split("-")[1])
    before = ranker.popular(interests[-1:], k=100)[0].ids
    burst = []
    for index in range(300):
        event = Event(f"n{index}", rare, START_MS + 400_000 + index, Source(EventType.CLICK, 1), index)
        burst.append(fold(InterestState(), event))
    ranker.rank(burst, k=5)
    assert ranker.default(k=100)
    assert ranker.popular(burst[:1], k=100)[0].ids != before
    version = ranker.model_version
    for record in records[-1]:
        ranker.apply_update(record)
    assert ranker.model_version != version
    assert len(ranker._recent) == 300


def test_an_event_that_came_late_counts_and_the_newest_one_not_again(new_trainer):
    interests, records = trained(new_trainer())
    ranker = ranker_of(records)
    last = next(interest for interest in reversed(interests) if len(interest.sequence) > 2)
    late = last.sequence[1]._replace(partition=3, offset=7)
    sequence = [last.sequence[0], late, *last.sequence[2:]]
    ranker.count(
        msgspec.structs.replace(
            last,
            sequence=sequence,
            new=[EventPosition(late.event_type, 3, 7)],
            produced_at_ms=last.produced_at_ms + 10**6,
        )
    )
    assert [later.event for later in ranker._recent.values()] == [late]


def test_an_event_far_ahead_of_the_version_counts_and_stays_a_number(new_trainer):
    """As where a stream is silent for weeks: weights of the shortest half-life would leave the range of a float."""
    interests, records = trained(new_trainer())
    ranker = ranker_of(records, hide_seen=False)
    last = interests[-1]
    far = last.sequence[-1]._replace(event_time_ms=last.event_time_ms + 30 * 86_400_000, offset=10**6)
    interest = msgspec.structs.replace(
        last,
        sequence=[*last.sequence, far],
        new=[EventPosition(far.event_type, far.partition, far.offset)],
        event_time_ms=far.event_time_ms,
        produced_at_ms=last.produced_at_ms + 1,
    )
    with np.errstate(all="raise", under="ignore"):
        items = ranker.rank([interest], k=5)[0]
        default = ranker.default(k=5)
    assert far.item_id in [item.item_id for item in default]
    assert all(np.isfinite(item.score) for item in [*items, *default])
