"""What lists hold, what they leave out, and in which order."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from interests import START_MS, fold
from rankers import ranker_of, trained

from streamrec.contracts.incoming import Item
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.retrievers.popular import PopularRetriever


def test_a_batch_gives_the_lists_of_its_members(new_trainer):
    interests, records = trained(new_trainer())
    ranker = ranker_of(records)
    alone = [ranker.rank([interest], k=5)[0].ids for interest in interests[-8:]]
    assert [[item.item_id for item in items] for items in ranker.rank(interests[-8:], k=5)] == alone


def test_lists_are_never_empty_once_any_event_was_seen():
    ranker = ModelRanker(hide_seen=True)
    assert not ranker.default(k=5)
    event = Event("u1", "only", START_MS, Source(EventType.CLICK, 0), 0)
    interest = fold(InterestState(), event)
    assert ranker.rank([interest], k=5)[0].ids == ["only"]
    assert ranker.popular([interest], k=5)[0].ids == ["only"]
    assert ranker.default(k=5).ids == ["only"]


def test_seen_items_are_hidden_unless_nothing_is_left(new_trainer):
    interests, records = trained(new_trainer())
    hiding, showing = ranker_of(records), ranker_of(records, hide_seen=False)
    shown_again = 0
    for interest in interests[-30:]:
        seen = {event.item_id for event in interest.sequence}
        assert not seen & {item.item_id for item in hiding.rank([interest], k=50)[0]}
        assert not seen & {item.item_id for item in hiding.popular([interest], k=50)[0]}
        shown_again += bool(seen & {item.item_id for item in showing.rank([interest], k=50)[0]})
    assert shown_again


def test_items_from_before_the_sequence_stay_hidden_in_every_list(new_trainer):
    interests, records = trained(new_trainer())
    hiding, showing = ranker_of(records), ranker_of(records, hide_seen=False)
    for interest in interests[-10:]:
        top = [item.item_id for item in hiding.rank([interest], k=100)[0]]
        remembers = msgspec.structs.replace(interest, seen_before=top[:3])
        for rank in (hiding.rank, hiding.popular):
            assert not set(top[:3]) & {item.item_id for item in rank([remembers], k=1_000)[0]}
        assert set(top[:3]) <= {item.item_id for item in showing.rank([remembers], k=1_000)[0]}


def test_items_that_no_version_knows_are_hidden_too(new_trainer):
    interests, records = trained(new_trainer())
    ranker = ranker_of(records)
    ranker.put_item(Item(item_id="of the catalogue"))
    (listed,) = ranker.rank(interests[-1:], k=1_000)
    assert "of the catalogue" in [item.item_id for item in listed]
    remembers = msgspec.structs.replace(interests[-1], seen_before=["of the catalogue"])
    (listed,) = ranker.rank([remembers], k=1_000)
    assert "of the catalogue" not in [item.item_id for item in listed]


def test_a_list_is_not_filled_up_with_what_it_hides(new_trainer):
    """However few items are left; where none is, what was seen is better than an empty list."""
    interests, records = trained(new_trainer())
    ranker = ranker_of(records)
    everything = [item.item_id for item in ranker_of(records, hide_seen=False).default(k=1_000)]
    unseen = [each for each in everything if each not in {event.item_id for event in interests[-1].sequence}][:2]
    remembers = msgspec.structs.replace(interests[-1], seen_before=[each for each in everything if each not in unseen])
    for rank in (ranker.rank, ranker.popular):
        assert {item.item_id for item in rank([remembers], k=50)[0]} == set(unseen)
        saw_all = msgspec.structs.replace(remembers, seen_before=everything)
        assert len(rank([saw_all], k=50)[0]) == 50


@pytest.mark.parametrize("together", [1, 64])
@pytest.mark.parametrize("has_model", [True, False])
def test_sums_over_events_count_people(new_trainer, together, has_model):
    """One user who clicks on an item 600 times is one person, whatever counts the clicks, and how many at a time."""
    trainer = new_trainer(hide_seen=False)
    interests, records = trained(trainer)
    ranker = ranker_of(records if has_model else [], hide_seen=False)
    if not has_model:
        ranker.rank(interests, k=1)
    state, burst = InterestState(), []
    for start in range(0, 600, together):
        new = []
        for index in range(start, min(start + together, 600)):
            event = Event("bot", "spam", START_MS + 400_000 + index, Source(EventType.CLICK, 7), index)
            new += (interest := fold(state, event, sequence_length=50)).new
        burst.append(msgspec.structs.replace(interest, new=new))
    someone = fold(InterestState(), Event("someone", "spam", START_MS + 399_000, Source(EventType.CLICK, 8), 0))
    trainer.train([someone], behind=0)
    for record in trainer.take_update() if has_model else []:
        ranker.apply_update(record)
    ranker.rank([someone, *burst], k=1)
    popular = ranker.popular(interests[:1], k=100)[0].ids
    assert popular.index("spam") > len(popular) // 2
    if has_model:
        before = trainer.model.items.popularity.counts[trainer.model.items.vocabulary.row("spam")].copy()
        for interest in burst:
            trainer.train([interest], behind=0)
        row = trainer.model.items.vocabulary.row("spam")
        assert (trainer.model.items.popularity.counts[row] <= 3.01 * before).all()
        assert trainer.model.items.vocabulary.events[row] <= 2


def test_withdrawn_and_deleted_items_are_in_no_list(new_trainer):
    interests, records = trained(new_trainer())
    ranker = ranker_of(records)
    top = ranker.rank([interests[-1]], k=4)[0].ids
    ranker.put_item(Item(item_id=top[0], available=False))
    ranker.delete_item(top[1])
    lists = [*ranker.rank(interests[-10:], k=100), *ranker.popular(interests[-10:], k=100), ranker.default(k=100)]
    assert not {top[0], top[1]} & {item.item_id for items in lists for item in items}
    ranker.put_item(Item(item_id=top[0]))
    assert ranker.rank([interests[-1]], k=4)[0][0].item_id == top[0]


def test_a_catalogue_that_is_forgotten_withdraws_nothing_and_offers_nothing(new_trainer):
    _, records = trained(new_trainer())
    ranker = ranker_of(records)
    top = ranker.default(k=1)[0].item_id
    known, others = ranker.vocabulary
    ranker.put_item(Item(item_id="untouched"))
    ranker.delete_item(top)
    assert ranker.vocabulary == (known - 1, others + 1)
    ranker.forget_catalogue()
    assert ranker.vocabulary == (known, others)
    assert ranker.default(k=1)[0].item_id == top


def test_an_item_leaves_the_lists_although_all_popular_ones_are_withdrawn(new_trainer):
    _, records = trained(new_trainer())
    ranker = ranker_of(records)
    everything = [item.item_id for item in ranker_of(records, hide_seen=False).default(k=1_000)]
    for item_id in everything[:-1]:
        ranker.delete_item(item_id)
    assert ranker.default(k=10).ids == everything[-1:]


def test_every_item_says_why_it_is_there(new_trainer):
    interests, records = trained(new_trainer(), events=1_200)
    ranker = ranker_of(records)
    reasons = 0
    for interest in interests[-40:]:
        own = {event.item_id for event in interest.sequence}
        for item in ranker.rank([interest], k=30)[0]:
            reasons += 1
            if item.reason.channel in ("model", "neighbour", "session", "category", "title"):
                assert item.reason.item_id in own
            else:
                assert item.reason.item_id is None
    assert reasons > 40
    assert {item.reason.channel for item in ranker.default(k=10)} <= {"popular", "recent"}


def test_scores_fall_and_items_are_distinct(new_trainer):
    interests, records = trained(new_trainer())
    items = ranker_of(records).rank([interests[-1]], k=100)[0]
    assert len({item.item_id for item in items}) == len(items) > 10
    assert np.all(np.diff([item.score for item in items]) <= 0)


def test_a_new_item_is_listed_with_the_next_version(new_trainer):
    trainer = new_trainer()
    interests, records = trained(trainer)
    ranker = ranker_of(records)
    burst = []
    for index in range(30):
        event = Event(f"n{index}", "breaking", START_MS + 400_000 + index, Source(EventType.CLICK, 1), index)
        burst.append(fold(InterestState(), event))
    trainer.train(burst, behind=0)
    for record in trainer.take_update():
        ranker.apply_update(record)
    assert "breaking" in ranker.default(k=30).ids
    assert "breaking" in ranker.rank([interests[0]], k=100)[0].ids


@pytest.mark.parametrize("k", [1, 7, 300])
def test_a_list_has_at_most_k_items(new_trainer, k):
    interests, records = trained(new_trainer(), events=200)
    assert len(ranker_of(records).rank([interests[-1]], k=k)[0]) <= k


def test_a_list_is_filled_up_although_most_candidates_are_withdrawn(new_trainer):
    trainer = new_trainer()
    events = [
        Event(f"n{index}", f"i{index}", START_MS + 1_000 * index, Source(EventType.CLICK, 0), index)
        for index in range(600)
    ]
    trainer.train([fold(InterestState(), event) for event in events], behind=0)
    ranker = ranker_of([trainer.take_update()])
    popular = [trainer.serving.ids[row] for row in PopularRetriever().rows(trainer.serving)]
    for item_id in popular[1:]:
        ranker.delete_item(item_id)
    default = ranker.default(k=50)
    assert len({item.item_id for item in default}) == len(default) == 50
    assert not {item.item_id for item in default} & set(popular[1:])
    assert np.all(np.diff([item.score for item in default]) <= 0)
