from __future__ import annotations

import pytest
import torch
from interests import stream

from streamrec.evaluation import live
from streamrec.evaluation.live import LiveTrainer
from streamrec.model.network.config import ModelConfig
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.training import guard, online_model
from streamrec.model.training.rules import Rules
from streamrec.model.training.trainer import Trainer

BATCH = 40


@pytest.fixture
def learner(tmp_path):
    """Return a trainer that learns as its worker lets it."""
    config = ModelConfig(dim=16, max_length=20)
    return LiveTrainer(Trainer(config, Rules(hide_seen=False), device=torch.device("cpu"), checkpoints=tmp_path))


def play(learner, ranker, interests):
    for start in range(0, len(interests), BATCH):
        for record in learner.learn(interests[start : start + BATCH]):
            ranker.apply_update(record)


@pytest.mark.parametrize("checkpoint_events", [200, 10_000], ids=["with a good version", "without any"])
def test_a_version_that_is_worse_is_rolled_back_and_every_event_stays_counted_once(
    learner, monkeypatch, checkpoint_events
):
    monkeypatch.setattr(live, "CHECKPOINT_EVENTS", checkpoint_events)
    monkeypatch.setattr(online_model, "COMPARED_SHARE", 1.0)
    monkeypatch.setattr(guard, "WINDOW", 256)
    interests, ranker, trainer = stream(2_400), ModelRanker(hide_seen=False), learner.trainer
    play(learner, ranker, interests[:1_200])
    assert bool(trainer.lineage.last_good) == (checkpoint_events == 200)
    planted = ["planted"]
    monkeypatch.setattr(trainer.guard, "fault", lambda _last_good: planted.pop() if planted else "")
    play(learner, ranker, interests[1_200:])

    assert learner.rollbacks == trainer.versions.rolled_back == 1
    assert trainer.model.events == len(interests)
    assert ranker.model_version == trainer.serving.version
    assert all(items for items in ranker.rank(interests[-30:], k=10))
