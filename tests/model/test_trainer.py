from __future__ import annotations

import json

import numpy as np
import pytest
from interests import START_MS, fold, stream

from streamrec.contracts.incoming import Item
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.errors import StreamrecError
from streamrec.model.network.learner import Learner
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.tables.content import category_code
from streamrec.model.training import stacking

BATCH = 40


def train(trainer, interests):
    """Train in micro-batches and return every version's changes as records."""
    records = []
    for start in range(0, len(interests), BATCH):
        trainer.train(interests[start : start + BATCH], behind=0)
        records += trainer.take_update()
    return records


def same(one, other) -> bool:
    vectors = np.array_equal(*(each.serving.vectors.take(slice(each.serving.size)) for each in (one, other)))
    weights = one.model.stacking.changes(), other.model.stacking.changes()
    return vectors and all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_same_seed_gives_the_same_model(new_trainer):
    interests = stream(300)
    one, other, third = new_trainer("a"), new_trainer("b"), new_trainer("c", seed=1)
    for trainer in (one, other, third):
        train(trainer, interests)
    assert same(one, other)
    assert not same(one, third)


def test_lists_follow_users_better_than_popularity_does(new_trainer):
    """Users keep to themes that popularity cannot see."""
    interests = stream(1_600)
    trainer, ranker = new_trainer(hide_seen=False), ModelRanker(hide_seen=False)
    for record in train(trainer, interests[:1_200]):
        ranker.apply_update(record)
    newest = {interest.user_id: interest for interest in interests[:1_200]}
    personal = popular = 0
    for interest in interests[1_200:]:
        known = [newest[interest.user_id]]
        item_id = interest.sequence[-1].item_id
        personal += item_id in ranker.rank(known, k=5)[0].ids
        popular += item_id in ranker.popular(known, k=5)[0].ids
    assert personal > 1.5 * popular


def test_a_restarted_trainer_picks_up_where_it_left_off(new_trainer):
    """Restarts agree to the bit. No restart differs a little: its readers have vectors that may lag behind somewhat."""
    interests = stream(400)
    undisturbed, killed = new_trainer("a"), new_trainer("b")
    for number, trainer in enumerate((undisturbed, killed)):
        train(trainer, interests[:200])
        trainer.save(str(number).encode())
        trainer.wait_until_saved()
    one, other = new_trainer("a"), new_trainer("b")
    assert (one.admissions, other.admissions) == (b"0", b"1")
    for trainer in (one, other):
        assert trainer.take_update()
    for trainer in (undisturbed, one, other):
        train(trainer, interests[200:])
    assert same(one, other)
    for restarted in (one, other):
        assert undisturbed.model.items.vocabulary.ids == restarted.model.items.vocabulary.ids
        assert np.array_equal(undisturbed.serving.counts, restarted.serving.counts)
        size = undisturbed.serving.size
        rows = np.arange(1, size)
        cosines = (undisturbed.serving.vectors.take(rows) * restarted.serving.vectors.take(rows)).sum(1)
        assert cosines.mean() > 0.95


class ChangesAt:
    """A drift detector that finds a change at its nth value."""

    def __init__(self, number):
        self.drift_detected = False
        self._left = number

    def update(self, _value):
        self._left -= 1
        self.drift_detected = self._left == 0


@pytest.mark.parametrize("number", [21, 22, 23])
def test_a_change_is_counted_once_and_raises_the_effort_wherever_in_a_micro_batch_it_shows(
    new_trainer, monkeypatch, number
):
    monkeypatch.setattr(stacking, "new_drift_detector", lambda: ChangesAt(number))
    trainer, steps = new_trainer(), []
    learn = Learner.train
    monkeypatch.setattr(Learner, "train", lambda *arguments: (steps.append(1), learn(*arguments))[1])
    train(trainer, stream(800))
    assert trainer.progress.drift_alarms == 1
    calm = 2 * 800 // BATCH
    assert 1.2 * calm < len(steps) < 2 * calm


def test_a_row_learns_from_when_its_item_is_admitted(new_trainer):
    trainer = new_trainer(admit_after=3)
    vocabulary, rows = trainer.model.items.vocabulary, trainer.model.learner.items
    train(trainer, stream(400))
    events, stepped = vocabulary.events[1 : len(vocabulary)], rows.steps[1 : len(vocabulary)].cpu().numpy()
    assert (stepped[events < 3] == 0).all()
    assert (stepped[events > 5] > 0).all()
    assert (events < 3).any()


def test_a_row_that_is_used_again_keeps_nothing_of_the_item_before(new_trainer):
    """Readers see the new item in its place, as one that came to an empty row would be."""
    trainer, ranker = new_trainer(hide_seen=False), ModelRanker(hide_seen=False)
    trainer.model.items.vocabulary.max_items = items = 20  # as many as a sequence holds
    old = stream(400)
    for record in train(trainer, old):
        ranker.apply_update(record)
    model = trainer.model
    gone = set(model.items.vocabulary.ids[1:])
    reset: list[int] = []
    begin = model.learner.add_item
    model.learner.add_item = lambda row, *arguments: (reset.append(row), begin(row, *arguments))
    state, new = InterestState(), []
    for offset in range(items):
        event = Event(
            "new", f"new-{offset}", START_MS + 1_000 * (500 + offset), Source(EventType.CLICK, 0), 500 + offset
        )
        new.append(fold(state, event))
    for record in train(trainer, new):
        ranker.apply_update(record)

    ids = model.items.vocabulary.ids
    assert gone.isdisjoint(ids[1:])
    assert set(reset) == set(range(1, items + 1)), "each row began anew"
    assert (model.items.vocabulary.events[1 : items + 1] == 1).all()
    listed = {item.item_id for items in ranker.rank([*old[-5:], new[-1]], k=100) for item in items}
    assert listed <= {event.item_id for event in state.sequence} | set(ids)
    assert not listed & gone


def test_few_checkpoints_are_kept_and_the_newest_is_read(new_trainer, tmp_path):
    trainer = new_trainer()
    train(trainer, stream(50))
    for number in range(5):
        trainer.save(str(number).encode())
        trainer.wait_until_saved()
    kept = sorted(path.name[-1] for path in (tmp_path / "model").iterdir())
    assert kept == ["1", "3", "4", "5"], "the newest ones, and the one on trial"
    assert new_trainer().admissions == b"4"


def test_an_unfinished_checkpoint_is_none(new_trainer, tmp_path):
    trainer = new_trainer()
    train(trainer, stream(50))
    trainer.save(b"1")
    trainer.wait_until_saved()
    unfinished = tmp_path / "model" / ".unfinished-000000002"
    unfinished.mkdir()
    (unfinished / "tensors.safetensors").write_bytes(b"half")
    again = new_trainer()
    assert again.admissions == b"1"
    again.save(b"2")
    again.wait_until_saved()
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "checkpoint-000000001",
        "checkpoint-000000002",
    ]


@pytest.mark.parametrize("name", ["tensors.safetensors", "replay.json", "manifest.json"])
def test_a_damaged_checkpoint_is_refused(new_trainer, tmp_path, name):
    trainer = new_trainer()
    train(trainer, stream(50))
    trainer.save(b"1")
    trainer.wait_until_saved()
    path = tmp_path / "model" / "checkpoint-000000001" / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StreamrecError, match=r"checkpoint-000000001 is damaged .*move it away"):
        new_trainer()


def test_a_checkpoint_of_another_format_is_refused(new_trainer, tmp_path):
    trainer = new_trainer()
    train(trainer, stream(50))
    trainer.save(b"1")
    trainer.wait_until_saved()
    path = tmp_path / "model" / "checkpoint-000000001" / "manifest.json"
    path.write_text(json.dumps({"format": 99, "digests": {}}))
    with pytest.raises(StreamrecError, match="has format 99"):
        new_trainer()


def test_a_checkpoint_of_another_shape_is_refused(new_trainer):
    trainer = new_trainer()
    train(trainer, stream(50))
    trainer.save(b"1")
    trainer.wait_until_saved()
    with pytest.raises(StreamrecError, match="STREAMREC_EMBEDDING_DIM"):
        new_trainer(dim=32)


def test_an_item_of_the_catalogue_has_a_vector_near_its_category(new_trainer):
    trainer = new_trainer()
    train(trainer, stream(1_200))
    trainer.put_item(Item(item_id="new", category="theme 1"))
    event = Event("newcomer", "new", START_MS + 1_200_000, Source(EventType.CLICK, 1), 0)
    train(trainer, [fold(InterestState(), event)])
    vectors = trainer.serving.vectors.take(slice(None))
    new = vectors[trainer.serving.row("new")]
    near = {
        theme: np.mean([vectors[trainer.serving.row(f"{theme}-{index}")] @ new for index in range(4)])
        for theme in range(4)
    }
    assert max(near, key=near.get) == 1


def test_nothing_new_makes_no_version(new_trainer):
    trainer = new_trainer()
    train(trainer, stream(40))
    assert trainer.take_update() == []


def test_a_catalogue_without_categories_leaves_those_that_events_named(new_trainer):
    trainer = new_trainer()
    train(trainer, stream(200))
    items, learner = trainer.model.items, trainer.model.learner
    row = items.vocabulary.row("1-0")
    category, bucket = items.category[row], learner.buckets[row][0]
    assert category == category_code("theme 1")
    trainer.put_item(Item(item_id="1-0", title="Red shoes"))
    train(trainer, stream(20, first_offset=200))
    assert items.category[row] == category
    assert learner.buckets[row][0] == bucket
    assert (learner.buckets[row] > 0).sum() == 3
    trainer.put_item(Item(item_id="1-0", category="theme 2"))
    train(trainer, stream(20, first_offset=220))
    assert items.category[row] == category_code("theme 2")


def test_all_items_of_a_category_are_published_when_the_category_learns(new_trainer, monkeypatch):
    trainer = new_trainer()
    train(trainer, stream(200))
    learner, serving = trainer.model.learner, trainer.serving
    rows = np.array([row for item_id, row in serving.rows.items() if item_id.startswith("1-")])
    learner.content.weight[learner.buckets[rows[0]][0]] += 1.0
    monkeypatch.setattr(learner, "train", lambda *_: np.zeros(0, np.int64))
    train(trainer, stream(1, first_offset=200))
    assert trainer.serving.vectors.take(rows) == pytest.approx(learner.vectors(rows), abs=5e-3)
