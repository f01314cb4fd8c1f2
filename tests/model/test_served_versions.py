"""Versions serve whole or not at all, and say what they know."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from interests import stream
from rankers import clicked, first_version, ranker_of, trained
from safetensors.numpy import load, save

from streamrec.contracts.model_update import MAX_PART_BYTES, ModelUpdate, Rollbacks
from streamrec.model.ranking import updates
from streamrec.model.ranking.candidates import encode, find
from streamrec.model.ranking.context import make_context
from streamrec.model.ranking.lists import best_lists
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.item_vectors import LARGEST_CODE
from streamrec.model.tables.content import BUCKETS
from streamrec.model.training import releases
from streamrec.service.list_marks import Knowledge


def test_a_snapshot_and_deltas_give_the_scores_of_the_trainer(new_trainer):
    trainer = new_trainer()
    interests, records = trained(trainer)
    ranker = ranker_of(records)
    assert len(records) == 10
    assert ranker.model_version == trainer.serving.version
    assert ranker.newest_produced_at_ms == interests[-1].produced_at_ms
    for interest in interests[-20:]:
        context = make_context(trainer.serving, interest.sequence, hide_seen=True)
        found = find(trainer.serving, [context], encode(trainer.serving, [context]))
        scores = trainer.serving.blend.scores(found.features)
        assert ranker.rank([interest], k=20) == best_lists(trainer.serving, found, scores, 20, ranker._prior)


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
    for name in ("counts", "last_ms", "events"):
        np.testing.assert_allclose(getattr(beginner._base, name), getattr(applied, name), rtol=1e-5)
    for one, other in zip(beginner._base.retrievers, applied.retrievers, strict=True):
        assert one.name == other.name
        assert np.array_equal(getattr(one, "neighbours", 0), getattr(other, "neighbours", 0))
    far = np.linalg.norm(beginner._base.vectors.take(slice(None)) - applied.vectors.take(slice(None)), axis=1)
    assert far.max() <= releases.PUBLISHED_DISTANCE + 5e-3
    assert len(beginner.rank(interests[-1:], k=20)[0]) == 20


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


@pytest.mark.parametrize("name", ["vector_steps", "counts", "dense.out.weight", "blend.linear.weight"])
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("words", BUCKETS), ("vector_codes", LARGEST_CODE + 1), ("vector_codes", -128), ("vector_rows", -1)],
)
def test_a_version_with_words_or_codes_that_do_not_exist_never_serves(new_trainer, name, value):
    interests, records = trained(new_trainer(), events=80)
    ranker = ranker_of(records[:1])
    version = ranker.model_version
    update = msgspec.json.decode(records[0][0], type=ModelUpdate)
    arrays = load(update.payload)
    arrays[name] = np.full_like(arrays[name], value)
    told = ranker.apply_update(
        msgspec.json.encode(msgspec.structs.replace(update, model_version="x", payload=save(arrays)))
    )
    assert (told, ranker.model_version) == ("bad-version", version)
    assert ranker.rank(interests[-1:], k=5)[0]


def test_a_version_of_an_earlier_release_serves(new_trainer):
    interests, records = trained(new_trainer(), events=80)
    update = msgspec.json.decode(records[0][0], type=ModelUpdate)
    arrays = load(update.payload)
    codes, steps = arrays.pop("vector_codes"), arrays.pop("vector_steps")
    arrays["vectors"] = (codes * steps[:, None]).astype(np.float16)
    earlier = msgspec.json.encode(msgspec.structs.replace(update, payload=save(arrays)))
    listed, of_earlier = (ranker_of([[record]]).rank(interests[-5:], k=20) for record in (records[0][0], earlier))
    assert [set(items.ids) for items in listed] == [set(items.ids) for items in of_earlier]


def test_parts_fit_a_record(new_trainer):
    trainer = new_trainer(dim=64)
    _, records = trained(trainer, events=80)
    assert max(len(record) for version in records for record in version) < 1_000_000
    assert MAX_PART_BYTES * 4 / 3 < 700_000


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


def test_a_version_says_what_it_contains(new_trainer):
    trainer = new_trainer()
    assert ModelRanker(hide_seen=True).knowledge == Knowledge("", 0, {})
    trainer.train(stream(30), behind=0)
    trainer.contain({0: 12, 1: 3})
    records = [trainer.take_update()]
    assert ranker_of(records).knowledge == Knowledge(trainer.serving.version, 30, {0: 12, 1: 3}, Rollbacks(0, 0))

    assert trainer.take_update() == []
    trainer.contain({0: 13})
    records.append(trainer.take_update())
    assert ranker_of(records).knowledge == Knowledge(trainer.serving.version, 30, {0: 13, 1: 3}, Rollbacks(0, 0))
    trainer.save(b"{}")
    trainer.wait_until_saved()
    assert ranker_of([new_trainer().take_update()]).knowledge.contains == {0: 13, 1: 3}


def test_a_version_of_an_older_trainer_does_not_say_what_it_contains(new_trainer):
    _, (record,) = trained(new_trainer(), events=20, batch=20)
    update = {
        name: value for name, value in msgspec.json.decode(record[0]).items() if name not in ("contains", "events")
    }
    assert ranker_of([[msgspec.json.encode(update)]]).knowledge.contains is None
