from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from interests import START_MS, fold, stream
from safetensors.numpy import load, save

from streamrec.contracts.derived import EventPosition
from streamrec.contracts.incoming import Item
from streamrec.contracts.model_update import MAX_PART_BYTES, ModelUpdate
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.model import beyond, releases, updates
from streamrec.model.candidates import encode, find
from streamrec.model.context import make_context
from streamrec.model.lists import best_lists
from streamrec.model.ranker import ModelRanker
from streamrec.model.serving import ServingModel
from streamrec.service.list_marks import Knowledge


def trained(trainer, events=400, batch=40):
    interests = stream(events)
    records = []
    for start in range(0, events, batch):
        trainer.train(interests[start : start + batch], behind=0)
        records.append(trainer.take_update())
    return interests, records


def ranker_of(records, *, hide_seen=True):
    ranker = ModelRanker(hide_seen=hide_seen)
    for version in records:
        for record in version:
            ranker.apply_update(record)
    return ranker


def test_a_snapshot_and_deltas_give_the_scores_of_the_trainer(new_trainer):
    trainer = new_trainer()
    interests, records = trained(trainer)
    ranker = ranker_of(records)
    assert len(records) == 10
    assert ranker.model_version == trainer.serving.version
    assert ranker.newest_produced_at_ms == interests[-1].produced_at_ms
    for interest in interests[-20:]:
        context = make_context(trainer.serving, interest.sequence)
        found = find(trainer.serving, [context], encode(trainer.serving, [context]), hide_seen=True)
        scores = trainer.serving.blend(torch.from_numpy(found.features)).detach().numpy()
        assert ranker.rank([interest], k=20) == best_lists(trainer.serving, [context], found, scores, 20, ranker._prior)


def test_a_snapshot_beside_a_delta_is_for_those_who_begin(new_trainer, monkeypatch):
    monkeypatch.setattr(releases, "SNAPSHOT_SHARE", -1.0)
    trainer = new_trainer()
    interests, records = trained(trainer)
    follower = ranker_of(records[:-1])
    delta, snapshot = records[-1]
    follower.apply_update(delta)
    applied = follower._base
    follower.apply_update(snapshot)
    assert follower._base is applied
    beginner = ranker_of([[delta, snapshot]])
    assert beginner.model_version == follower.model_version == trainer.serving.version
    for name in ("counts", "last_ms", "events", "neighbours"):
        np.testing.assert_allclose(getattr(beginner._base, name), getattr(applied, name), rtol=1e-5)
    far = np.linalg.norm(beginner._base.vectors - applied.vectors, axis=1)
    assert far.max() <= releases.PUBLISHED_DISTANCE + 1e-3
    assert len(beginner.rank(interests[-1:], k=20)[0]) == 20


def test_a_batch_gives_the_lists_of_its_members(new_trainer):
    interests, records = trained(new_trainer())
    ranker = ranker_of(records)
    alone = [[item.item_id for item in ranker.rank([interest], k=5)[0]] for interest in interests[-8:]]
    assert [[item.item_id for item in items] for items in ranker.rank(interests[-8:], k=5)] == alone


def test_half_a_version_never_serves(new_trainer, monkeypatch):
    monkeypatch.setattr(updates, "MAX_PART_BYTES", 1_500)
    monkeypatch.setattr(releases, "SNAPSHOT_SHARE", np.inf)  # a version is its delta
    trainer = new_trainer()
    interests, records = trained(trainer)
    assert all(len(version) > 2 for version in records)
    ranker = ranker_of(records[:-1])
    before = (ranker.model_version, ranker.rank([interests[-1]], k=10))
    for record in records[-1][:-1]:
        ranker.apply_update(record)
        assert (ranker.model_version, ranker.rank([interests[-1]], k=10)) == before
    ranker.apply_update(records[-1][-1])
    assert ranker.model_version == trainer.serving.version


def test_a_version_with_a_gap_waits_for_the_next_snapshot(new_trainer, monkeypatch):
    monkeypatch.setattr(updates, "MAX_PART_BYTES", 1_500)
    trainer = new_trainer()
    _, records = trained(trainer)
    ranker = ranker_of(records[:3])
    version = ranker.model_version
    for record in [*records[3][:1], *records[3][2:], *records[4]]:
        ranker.apply_update(record)
    assert ranker.model_version == version
    trainer.save(b"")
    trainer.wait_until_saved()
    for record in new_trainer().take_update():
        ranker.apply_update(record)
    assert ranker.model_version not in (version, "")


def test_a_damaged_update_is_passed_over(new_trainer):
    interests, records = trained(new_trainer(), events=80)
    ranker = ranker_of(records)
    version = ranker.model_version
    ranker.apply_update(b"{")
    bad = ModelUpdate(
        kind="snapshot", model_version="x", base_version="", part=0, parts=1, newest_produced_at_ms=0, payload=b"no"
    )
    ranker.apply_update(msgspec.json.encode(bad))
    assert ranker.model_version == version
    assert ranker.rank(interests[-1:], k=3)[0]


@pytest.mark.parametrize("name", ["vectors", "counts", "dense.out.weight", "blend.linear.weight"])
def test_a_version_that_is_no_number_never_serves(new_trainer, name):
    trainer = new_trainer()
    interests, records = trained(trainer, events=80)
    ranker = ranker_of(records[:1])
    version, before = ranker.model_version, ranker.rank(interests[-1:], k=5)
    update = msgspec.json.decode(records[0][0], type=ModelUpdate)
    arrays = load(update.payload)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] = np.nan
    ranker.apply_update(msgspec.json.encode(msgspec.structs.replace(update, model_version="x", payload=save(arrays))))
    assert (ranker.model_version, ranker.rank(interests[-1:], k=5)) == (version, before)
    for record in records[1]:
        ranker.apply_update(record)
    assert ranker.model_version == trainer.serving.version


def test_parts_fit_a_record(new_trainer):
    trainer = new_trainer(dim=64)
    _, records = trained(trainer, events=80)
    assert max(len(record) for version in records for record in version) < 1_000_000
    assert MAX_PART_BYTES * 4 / 3 < 700_000


def test_lists_are_never_empty_once_any_event_was_seen():
    ranker = ModelRanker(hide_seen=True)
    assert ranker.default(k=5) == []
    event = Event("u1", "only", START_MS, Source(EventType.CLICK, 0), 0)
    interest = fold(InterestState(), event)
    assert [item.item_id for item in ranker.rank([interest], k=5)[0]] == ["only"]
    assert [item.item_id for item in ranker.popular([interest], k=5)[0]] == ["only"]
    assert [item.item_id for item in ranker.default(k=5)] == ["only"]


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
    popular = [item.item_id for item in ranker.popular(interests[:1], k=100)[0]]
    assert popular.index("spam") > len(popular) // 2
    if has_model:
        before = trainer.learning.items.popularity.counts[trainer.learning.items.vocabulary.row("spam")].copy()
        for interest in burst:
            trainer.train([interest], behind=0)
        row = trainer.learning.items.vocabulary.row("spam")
        assert (trainer.learning.items.popularity.counts[row] <= 3.01 * before).all()
        assert trainer.learning.items.vocabulary.events[row] <= 2


def test_withdrawn_and_deleted_items_are_in_no_list(new_trainer):
    interests, records = trained(new_trainer())
    ranker = ranker_of(records)
    top = [item.item_id for item in ranker.rank([interests[-1]], k=4)[0]]
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
    assert [item.item_id for item in ranker.default(k=10)] == everything[-1:]


def test_every_item_says_why_it_is_there(new_trainer):
    interests, records = trained(new_trainer(), events=1_200)
    ranker = ranker_of(records)
    reasons = 0
    for interest in interests[-40:]:
        own = {event.item_id for event in interest.sequence}
        for item in ranker.rank([interest], k=30)[0]:
            reasons += 1
            if item.reason.channel in ("model", "neighbour"):
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
    assert "breaking" in [item.item_id for item in ranker.default(k=10)]
    assert "breaking" in [item.item_id for item in ranker.rank([interests[0]], k=100)[0]]


@pytest.mark.parametrize("k", [1, 7, 300])
def test_a_list_has_at_most_k_items(new_trainer, k):
    interests, records = trained(new_trainer(), events=200)
    assert len(ranker_of(records).rank([interests[-1]], k=k)[0]) <= k


def test_events_count_before_a_version_has_learned_them(new_trainer):
    interests, records = trained(new_trainer())
    ranker = ranker_of(records[:-1])
    rare = min({event.item_id for event in interests[0].sequence}, key=lambda item: item.split("-")[1])
    before = [item.item_id for item in ranker.popular(interests[-1:], k=100)[0]]
    burst = []
    for index in range(300):
        event = Event(f"n{index}", rare, START_MS + 400_000 + index, Source(EventType.CLICK, 1), index)
        burst.append(fold(InterestState(), event))
    ranker.rank(burst, k=5)
    assert ranker.default(k=100)
    assert [item.item_id for item in ranker.popular(burst[:1], k=100)[0]] != before
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


def test_a_list_is_filled_up_although_most_candidates_are_withdrawn(new_trainer):
    trainer = new_trainer()
    events = [
        Event(f"n{index}", f"i{index}", START_MS + 1_000 * index, Source(EventType.CLICK, 0), index)
        for index in range(600)
    ]
    trainer.train([fold(InterestState(), event) for event in events], behind=0)
    ranker = ranker_of([trainer.take_update()])
    popular = [trainer.serving.ids[row] for row in trainer.serving.popular_rows]
    for item_id in popular[1:]:
        ranker.delete_item(item_id)
    default = ranker.default(k=50)
    assert len({item.item_id for item in default}) == len(default) == 50
    assert not {item.item_id for item in default} & set(popular[1:])
    assert np.all(np.diff([item.score for item in default]) <= 0)


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


def first_version(new_trainer, *, hide_seen=True):
    """Return a ranker whose version comes from a single event, as after the first click of all."""
    trainer = new_trainer()
    trainer.train([fold(InterestState(), Event("first", "i0", START_MS, Source(EventType.CLICK, 0), 0))], behind=0)
    return trainer, ranker_of([trainer.take_update()], hide_seen=hide_seen)


def clicked(*item_ids, user_id="u1", first=1):
    """Return the interest of a user who has clicked items one after the other, all of them new."""
    state, new = InterestState(), []
    for offset, item_id in enumerate(item_ids, start=first):
        event = Event(user_id, item_id, START_MS + 1_000 * offset, Source(EventType.CLICK, 0), offset)
        interest = fold(state, event)
        new += interest.new
    return msgspec.structs.replace(interest, new=new)


def ids(items):
    return [item.item_id for item in items]


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
    trainer.learning.items.vocabulary.max_items = 1
    trainer.train([clicked("n1", user_id="u9", first=3)], behind=0)
    for record in trainer.take_update():
        ranker.apply_update(record)

    assert ranker.vocabulary == (1, 1)
    assert ids(ranker.default(k=9)) == ["n1", "c1"]


def test_what_a_version_knows_is_not_told_before_it_serves(new_trainer, monkeypatch):
    trainer, ranker = first_version(new_trainer)
    before, told = ranker.knowledge, []

    def watched(model):
        told.append((ranker.knowledge, ranker.model_version))
        return countable(model)

    countable = ServingModel.countable
    monkeypatch.setattr(ServingModel, "countable", watched)
    trainer.train([clicked("n1", user_id="u9")], behind=0)
    for record in trainer.take_update():
        ranker.apply_update(record)

    assert told == [(before, before.version)]
    assert ranker.knowledge.version == ranker.model_version == trainer.serving.version


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


def test_a_version_says_what_it_contains(new_trainer):
    trainer = new_trainer()
    assert ModelRanker(hide_seen=True).knowledge == Knowledge("", 0, {})
    trainer.train(stream(30), behind=0)
    trainer.contain({0: 12, 1: 3})
    records = [trainer.take_update()]
    assert ranker_of(records).knowledge == Knowledge(trainer.serving.version, 30, {0: 12, 1: 3})

    assert trainer.take_update() == []
    trainer.contain({0: 13})
    records.append(trainer.take_update())
    assert ranker_of(records).knowledge == Knowledge(trainer.serving.version, 30, {0: 13, 1: 3})
    trainer.save(b"{}")
    trainer.wait_until_saved()
    assert ranker_of([new_trainer().take_update()]).knowledge.contains == {0: 13, 1: 3}


def test_a_version_of_an_older_trainer_does_not_say_what_it_contains(new_trainer):
    _, (record,) = trained(new_trainer(), events=20, batch=20)
    update = {
        name: value for name, value in msgspec.json.decode(record[0]).items() if name not in ("contains", "events")
    }
    assert ranker_of([[msgspec.json.encode(update)]]).knowledge.contains is None
