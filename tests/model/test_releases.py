"""When a version brings everything with it, for readers who begin."""

from __future__ import annotations

import msgspec
import pytest
from interests import stream

from streamrec.contracts.model_update import ModelUpdate
from streamrec.model import releases
from streamrec.model.releases import SNAPSHOT_INTERVAL_S


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
    trainer.learning.releases._monotonic_s = lambda: clock[0]
    assert kinds(trainer, 0) == {"snapshot"}
    trainer.learning.newest_produced_at_ms += int(jump_s * 1_000)
    assert kinds(trainer, 1) == {"delta"}
    clock[0] += SNAPSHOT_INTERVAL_S + 1
    assert kinds(trainer, 2) == {"delta", "snapshot"}
    assert kinds(trainer, 3) == {"delta"}
