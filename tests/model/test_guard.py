"""Broken or badly trained versions do not serve, or not for long, and the trainer rolls back to a good one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from interests import START_MS, fold, stream
from training import Running

from streamrec.contracts.model_version import ModelCommand
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.model.network.learner import Learner
from streamrec.model.ranking.candidates import encode, find
from streamrec.model.ranking.context import make_context
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.ranking.serving import ServingModel, Weights
from streamrec.model.ranking.updates import UpdateReader
from streamrec.model.training import effort, guard, online_model


def log_of(events, **options):
    return [msgspec.json.encode(interest) for interest in stream(events, **options)]


def served(records):
    """Return every version that a reader of the records serves."""
    reader, model, versions = UpdateReader(), ServingModel(), []
    for record in records:
        newer = reader.apply(record, model)
        if newer is not None:
            model = newer
            versions.append(newer)
    return versions


def is_finite(model):
    tables = [model.vectors.steps, model.counts, *model.blend.weights().values(), *model.dense.values()]
    return all(np.isfinite(table).all() for table in tables)


def break_network(trainer):
    with torch.no_grad():
        trainer.model.learner.model.out.weight[0, 0] = torch.nan


def break_vectors(trainer):
    trainer.model.learner.items.weight[3, 0] = torch.inf


def break_blend(trainer):
    with torch.no_grad():
        trainer.model.stacking.blend.linear.weight[0, 0] = torch.nan


@pytest.mark.parametrize("plant", [break_network, break_vectors, break_blend])
def test_a_version_with_nan_never_serves(new_trainer, plant):
    running = Running(new_trainer(), log_of(2_000))
    running.play(1_000)
    plant(running.trainer)
    running.play(2_000)

    assert all(map(is_finite, served(running.updates)))
    (refused,) = [version for version in running.trainer.versions.versions if version.status == "refused"]
    assert refused.because.endswith("is not finite")
    assert (running.trainer.versions.refused, running.trainer.versions.rolled_back) == (1, 1)
    assert served(running.updates)[-1].version == running.trainer.serving.version
    assert running.counted == 2_000


@pytest.fixture
def soon(monkeypatch):
    """Compare every tested event, in a smaller window: all that takes tens of thousands of events comes soon."""
    monkeypatch.setattr(online_model, "COMPARED_SHARE", 1.0)
    monkeypatch.setattr(guard, "WINDOW", 512)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("held_one_in", [guard.HELD_ONE_IN, 1 << 40], ids=["held users", "no held users"])
def test_a_version_trained_on_shuffled_labels_serves_no_longer_than_the_check_takes(
    new_trainer, monkeypatch, held_one_in
):
    monkeypatch.setattr(guard, "HELD_ONE_IN", held_one_in)
    running = Running(new_trainer(hide_seen=False), log_of(7_000, users=120))
    running.play(4_000)
    train, draw = Learner.train, np.random.default_rng(0)

    def train_on_shuffled(self, padded, *arguments):
        known = padded.rows > 0
        padded.rows[known] = draw.permutation(padded.rows[known])
        return train(self, padded, *arguments)

    monkeypatch.setattr(Learner, "train", train_on_shuffled)
    while not running.trainer.versions.rolled_back:
        running.turn()
        assert running.trainer.model.events < 4_000 + 2 * guard.MIN_COMPARED / effort.TESTED_SHARES[1]
    monkeypatch.setattr(Learner, "train", train)

    versions = {version.name: version for version in running.trainer.versions.versions}
    assert 0 < versions[running.trainer.lineage.last_good].events <= 4_000
    assert running.position < 4_000
    running.play(7_000)
    assert running.counted == 7_000
    assert running.trainer.versions.rolled_back == 1


@pytest.mark.usefixtures("soon")
def test_what_is_healthy_is_never_rolled_back_and_becomes_good(new_trainer):
    running = Running(new_trainer(hide_seen=False), log_of(5_000, users=120))
    running.play(5_000)

    versions = running.trainer.versions
    assert (versions.refused, versions.rolled_back) == (0, 0)
    assert [version.status for version in versions.versions].count("good") >= 2


def test_events_that_led_to_a_bad_version_are_counted_again_and_trained_no_more(new_trainer):
    running = Running(new_trainer(), log_of(1_600))
    running.play(1_200)
    break_network(running.trainer)
    while not running.trainer.versions.rolled_back:
        running.turn()
    steps, blend = running.trainer.model.learner.steps, running.trainer.model.stacking.changes()
    running.play(1_200)

    assert running.trainer.model.learner.steps == steps == 0
    after = running.trainer.model.stacking.changes()
    assert all(np.array_equal(after[name], blend[name]) for name in blend)
    running.play(1_600)
    assert running.trainer.model.learner.steps > 0


def test_a_spared_event_is_no_target_of_a_later_step_either(new_trainer, monkeypatch):
    running = Running(new_trainer(), log_of(1_600))
    running.play(1_200)
    break_network(running.trainer)
    while not running.trainer.versions.rolled_back:
        running.turn()
    targets, pad = [], online_model.pad

    def watch(histories, max_length, *, spared):
        padded = pad(histories, max_length, spared=spared)
        for (sequence, *_), weights in zip(histories, padded.weights, strict=True):
            kept = sequence[-max_length:]
            targets.extend(event.offset for event, weight in zip(kept, weights, strict=False) if weight)
        return padded

    monkeypatch.setattr(online_model, "pad", watch)
    running.play(1_600)
    assert min(targets) == 1_240
    assert len(set(targets)) > 300


def test_an_item_that_no_version_could_list_is_not_held_against_one(new_trainer):
    (user, *_) = (name for name in map("user{}".format, range(1_000)) if guard.is_held(name))
    trainer, state = new_trainer(), InterestState()
    trainer.train(stream(40), behind=0)
    trainer.take_update()
    for offset, item in enumerate(["0-0", "new"]):
        click = Event(user, item, START_MS + 60_000 + offset, Source(EventType.CLICK, 1), offset)
        trainer.train([fold(state, click)], behind=0)
        trainer.take_update()

    assert [held.item_id for held in trainer.guard._held.values()] == ["0-0"]


def test_held_out_users_are_counted_and_never_trained(new_trainer):
    held = [name for name in map("user{}".format, range(1_000)) if guard.is_held(name)][:8]
    states, log = {name: InterestState() for name in held}, []
    for offset in range(200):
        event = Event(
            held[offset % 8], f"i{offset % 17}", START_MS + 1_000 * offset, Source(EventType.CLICK, 0), offset
        )
        log.append(msgspec.json.encode(fold(states[event.user_id], event)))
    running = Running(new_trainer(), log)
    blend = running.trainer.model.stacking.changes()
    running.play(200)

    assert running.counted == 200
    assert running.trainer.model.learner.steps == 0
    assert not running.trainer.model.reservoir.entries
    assert list(running.trainer.guard._held) == held, "the newest event of each, the oldest first"
    after = running.trainer.model.stacking.changes()
    assert all(np.array_equal(after[name], blend[name]) for name in blend)


def test_a_trainer_that_restarted_from_scratch_can_be_restarted(new_trainer):
    log = log_of(400)
    running = Running(new_trainer(), log)
    running.play(200)
    break_network(running.trainer)
    while not running.trainer.versions.rolled_back:
        running.turn()
    again = Running(new_trainer(), log)
    assert (again.position, again.trainer.serving.version) == (0, "")
    again.play(400)
    assert again.counted == 400
    assert again.trainer.serving.version


def test_the_last_good_version_is_tested_as_it_served(new_trainer):
    """Its weights over the counts of today give the candidates and features of the version that they came from."""
    running = Running(new_trainer(hide_seen=False), log_of(600))
    running.play(600)
    serving = running.trainer.serving
    weights = Weights.of(serving.weights.state()).grown(*serving.vectors.codes.shape)
    again = serving.with_weights(weights)
    contexts = [make_context(serving, interest.sequence) for interest in stream(600)[-8:]]
    one, other = (find(model, contexts, encode(model, contexts)) for model in (serving, again))

    assert np.array_equal(one.candidates.rows, other.candidates.rows)
    assert np.array_equal(one.features, other.features)
    assert again.encoder is not serving.encoder


def test_weights_that_an_earlier_release_kept_are_read(new_trainer):
    running = Running(new_trainer(hide_seen=False), log_of(200))
    running.play(200)
    kept = running.trainer.serving.weights.state()
    codes, steps = kept.pop("vector_codes"), kept.pop("vector_steps")
    vectors = codes * steps[:, None]
    of_earlier = Weights.of({**kept, "vectors": vectors.astype(np.float16)}).vectors.take(slice(None))
    assert of_earlier == pytest.approx(vectors, abs=1e-3)


def test_a_manual_rollback_brings_back_the_lists_of_the_older_version(new_trainer):
    running = Running(new_trainer(hide_seen=False), log_of(2_400))
    running.play(1_200)
    running.use_case.checkpoint()
    name, vectors = running.trainer.versions.versions[-1].name, running.trainer.serving.vectors.take(slice(None))
    running.play(2_000)
    before = len(running.updates)
    running.command(msgspec.json.encode(ModelCommand(roll_back_to=name, asked_at_ms=1)))
    running.use_case.step()

    ranker = ModelRanker(hide_seen=False)
    for record in running.updates[before:]:
        ranker.apply_update(record)
    assert ranker.model_version == running.trainer.serving.version
    size = running.trainer.serving.size
    moved = np.linalg.norm(running.trainer.serving.vectors.take(slice(size)) - vectors[:size], axis=1)
    assert moved.max() <= 0.05, "what was published is near what was learned"
    newest = running.trainer.versions.versions[-1]
    assert (newest.status, newest.went_on_from) == ("serving", name)
    running.play(2_400)
    assert running.counted == 2_400


def test_a_command_takes_effect_once(new_trainer):
    log = log_of(2_000)
    running = Running(new_trainer(), log)
    running.play(800)
    running.use_case.checkpoint()
    command = msgspec.json.encode(ModelCommand(roll_back_to=running.trainer.versions.versions[-1].name, asked_at_ms=1))
    running.play(1_200)
    running.command(command)
    running.play(1_600)
    running.use_case.checkpoint()

    again = Running(new_trainer(), log)
    again.command(command, b"{", msgspec.json.encode(ModelCommand(roll_back_to="unknown", asked_at_ms=1)))
    again.play(2_000)
    assert again.trainer.versions.rolled_back == 1
    assert again.counted == 2_000


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_with_rollbacks_in_between_every_event_is_counted_once(new_trainer, seed):
    draw, log = np.random.default_rng(seed), log_of(2_400)
    running = Running(new_trainer(), log, checkpoint_interval_s=3.0)
    commands, rollbacks = [], 0
    while running.position < 2_400 or running.counted < 2_400:
        running.turn()
        assert running.counted + running.use_case.waiting <= len(log)
        what = draw.random()
        kept = [version.name for version in running.trainer.versions.versions if version.checkpoint]
        if what < 0.05 and kept and len(commands) < 5:
            commands.append(msgspec.json.encode(ModelCommand(roll_back_to=str(draw.choice(kept)), asked_at_ms=1)))
            running.command(commands[-1], start=len(commands) - 1)
        elif what < 0.15:  # dies here, and its successor reads every command again
            rollbacks = max(rollbacks, running.trainer.versions.rolled_back)
            running = Running(new_trainer(), log, checkpoint_interval_s=3.0)
            running.command(*commands)

    assert len(commands) == 5
    assert running.counted == 2_400
    assert running.trainer.model.events == 2_400


@pytest.mark.usefixtures("soon")
def test_what_the_guard_knows_survives_a_restart(new_trainer):
    first = Running(new_trainer(hide_seen=False), log_of(4_000, users=120))
    while not first.trainer.lineage.last_good:
        first.turn()
    first.play(first.position + 400)
    first.use_case.checkpoint()
    second = new_trainer(hide_seen=False)

    mine, others = first.trainer.guard, second.guard
    assert np.array_equal(np.array(mine._differences), np.array(others._differences), equal_nan=True)
    assert (mine.loss, mine._on_trial, mine._held) == (others.loss, others._on_trial, others._held)
    size = len(others.good.vectors.steps)
    assert np.array_equal(mine.good.vectors.take(slice(size)), others.good.vectors.take(slice(size)))
    assert second.versions == first.trainer.versions


@pytest.mark.usefixtures("soon")
def test_the_good_version_does_not_know_an_item_that_got_the_row_of_another_one(new_trainer):
    running = Running(new_trainer(hide_seen=False), log_of(4_000, users=120))
    while not running.trainer.lineage.last_good:
        running.turn()
    trainer = running.trainer
    vocabulary = trainer.model.items.vocabulary
    row = vocabulary.row("0-0")
    assert trainer.guard.good.vectors.steps[row]
    vocabulary.remove("0-0")
    event = Event("newcomer", "another", START_MS + 5_000_000, Source(EventType.CLICK, 1), 0)
    trainer.train([fold(InterestState(), event)], behind=0)
    trainer.take_update()
    running.use_case.checkpoint()
    for each in (trainer, new_trainer(hide_seen=False)):
        assert each.model.items.vocabulary.row("another") == row
        assert not each.guard.good.vectors.steps[row]
        assert row not in each.guard._known_rows
