"""When a version brings everything with it, for readers who begin."""

from __future__ import annotations

import msgspec
import pytest
from interests import stream

from streamrec.contracts.model_update import ModelUpdate, Rollbacks
from streamrec.model.training import releases
from streamrec.model.training.releases import SNAPSHOT_INTERVAL_S


def kinds(trainer, number):
    """Train a little more, and return what kinds of records the next version makes."""
    trainer.train(stream(30, first_offset=30 * number), behind=0)
    return kinds_of(trainer.take_update())


def kinds_of(records):
    return {msgspec.json.decode(record, type=ModelUpdate).kind for record in records}


def test_readers_that_know_nothing_get_a_snapshot_though_nothing_was_learned(new_trainer):
    trainer = new_trainer()
    assert trainer.take_update(whole=True) == []
    assert kinds(trainer, 0) == {"snapshot"}
    assert kinds(trainer, 1) == {"delta"}
    assert trainer.take_update() == []
    assert kinds_of(trainer.take_update(whole=True)) == {"delta", "snapshot"}


@pytest.mark.parametrize("jump_s", [-10 * SNAPSHOT_INTERVAL_S, 10 * SNAPSHOT_INTERVAL_S])
def test_snapshots_come_at_their_pace_whatever_the_wall_clock_does(new_trainer, monkeypatch, jump_s):
    monkeypatch.setattr(releases, "SNAPSHOT_SHARE", float("inf"))
    clock = [0.0]
    trainer = new_trainer()
    trainer.model.releases._monotonic_s = lambda: clock[0]
    assert kinds(trainer, 0) == {"snapshot"}
    trainer.model.newest_produced_at_ms += int(jump_s * 1_000)
    assert kinds(trainer, 1) == {"delta"}
    clock[0] += SNAPSHOT_INTERVAL_S + 1
    assert kinds(trainer, 2) == {"delta", "snapshot"}
    assert kinds(trainer, 3) == {"delta"}


def test_versions_tell_how_often_the_trainer_was_rolled_back_and_to_where(new_trainer):
    def told(records):
        return {msgspec.json.decode(record, type=ModelUpdate).rollbacks for record in records}

    trainer = new_trainer()
    trainer.train(stream(30), behind=0)
    assert told(trainer.take_update()) == {Rollbacks(0, 0)}
    trainer.save(b"")
    trainer.wait_until_saved()
    kept = trainer.lineage.versions[-1].name
    trainer.train(stream(20, first_offset=30), behind=0)
    trainer.take_update()
    trainer.roll_back(kept, "by hand")
    assert told(trainer.take_update()) == {Rollbacks(1, 30)}

    trainer.train(stream(10, first_offset=50), behind=0)
    trainer.save(b"")
    assert told(new_trainer().take_update()) == {Rollbacks(1, 30)}, "after a restart as well"
