from __future__ import annotations

import json

import numpy as np
import pytest
from interests import START_MS, fold, stream

from streamrec.contracts.incoming import Item
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.errors import StreamrecError
from streamrec.model.ranker import ModelRanker

BATCH = 40


def train(trainer, interests):
    """Train in micro-batches and return every version's changes as records."""
    records = []
    for start in range(0, len(interests), BATCH):
        trainer.train(interests[start : start + BATCH], behind=0)
        records += trainer.take_update()
    return records


def same(one, other) -> bool:
    vectors = np.array_equal(one.serving.vectors[: one.serving.size], other.serving.vectors[: other.serving.size])
    weights = one.learning.stacking.changes(), other.learning.stacking.changes()
    return vectors and all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_same_seed_gives_the_same_model(new_trainer):
    interests = stream(300)
    one, other, third = new_trainer("a"), new_trainer("b"), new_trainer("c", seed=1)
    for trainer in (one, other, third):
        train(trainer, interests)
    assert same(one, other)
    assert not same(one, third)


def test_the_future_changes_nothing_that_was_served_before(new_trainer):
    """Versions up to an instant are equal, whatever comes after it."""
    past = stream(200)
    one, other = new_trainer("a"), new_trainer("b")
    train(one, past + stream(120, seed=1, first_offset=200))
    train(other, past)
    before = other.serving
    fresh = new_trainer("c")
    train(fresh, past)
    assert np.array_equal(fresh.serving.vectors, before.vectors)
    assert np.array_equal(fresh.serving.counts, before.counts)


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
        personal += item_id in [item.item_id for item in ranker.rank(known, k=5)[0]]
        popular += item_id in [item.item_id for item in ranker.popular(known, k=5)[0]]
    assert personal > 1.5 * popular


def test_a_restarted_trainer_goes_on_as_if_nothing_had_happened(new_trainer):
    interests = stream(400)
    undisturbed, first = new_trainer("a"), new_trainer("b")
    train(undisturbed, interests[:200])
    undisturbed.save(b"1")
    undisturbed.wait_until_saved()
    train(first, interests[:200])
    first.save(b"2")
    first.wait_until_saved()
    second, third = new_trainer("a"), new_trainer("b")
    assert (second.admissions, third.admissions) == (b"1", b"2")
    for trainer in (second, third):
        assert trainer.take_update()
        train(trainer, interests[200:])
    assert same(second, third)
    assert second.learning.items.vocabulary.ids == third.learning.items.vocabulary.ids


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
    vectors = trainer.serving.vectors
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
