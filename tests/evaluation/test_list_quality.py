from __future__ import annotations

import numpy as np
import pytest
import torch
from interests import stream

from streamrec.evaluation.list_quality import ListQuality
from streamrec.evaluation.metrics import calibration
from streamrec.model.network.config import ModelConfig
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.training.rules import Rules
from streamrec.model.training.trainer import Trainer


@pytest.fixture
def taught(tmp_path):
    """Return a ranker, and what it has learned."""
    rules = Rules(hide_seen=False, channels=("neighbour", "popular"))
    trainer = Trainer(
        ModelConfig(dim=16, max_length=20), rules, device=torch.device("cpu"), checkpoints=tmp_path / "model"
    )
    ranker, interests = ModelRanker(hide_seen=False), stream(600)
    for start in range(0, len(interests), 60):
        trainer.train(interests[start : start + 60], behind=0)
        for record in trainer.take_update():
            ranker.apply_update(record)
    return ranker, interests


def quality_of(ranker, interests, item_ids):
    quality = ListQuality()
    lists = [[item.item_id for item in items] for items in ranker.rank(interests, k=10)]
    model, found = ranker.candidates(interests, k=10)
    quality.add(model, found, lists, item_ids)
    return quality, model, found, lists


def test_recall_is_of_the_first_hundred_candidates_of_a_channel(taught):
    ranker, interests = taught
    asked = interests[-40:]
    first = [items[0].item_id for items in ranker.rank(asked, k=1)]
    quality, model, found, _ = quality_of(ranker, asked, first)
    channels = quality.channels()
    assert list(channels) == ["neighbour", "popular"]
    for number, name in enumerate(channels):
        ends = found.retrievals[number].found.ends
        rows = np.split(found.retrievals[number].found.rows, ends[:-1])
        holds = [model.row(item_id) in own for item_id, own in zip(first, rows, strict=True)]
        # what is first in the list is first among its channel's candidates
        assert channels[name].recall_at_100 == pytest.approx(np.mean(holds), abs=1e-5)


def test_what_two_channels_find_is_added_by_none(taught):
    ranker, interests = taught
    asked = interests[-40:]
    first = [items[0].item_id for items in ranker.rank(asked, k=1)]
    channels = quality_of(ranker, asked, first)[0].channels()
    assert sum(each.recall_at_100 for each in channels.values()) > 1.0
    assert all(each.added_recall_at_100 < 0.1 for each in channels.values())


def test_an_unknown_item_is_found_by_no_channel(taught):
    ranker, interests = taught
    channels = quality_of(ranker, interests[-5:], ["nothing"] * 5)[0].channels()
    assert all(each.recall_at_100 == each.added_recall_at_100 == 0.0 for each in channels.values())


def test_lists_of_the_users_themes_are_calibrated(taught):
    ranker, interests = taught
    quality, model, _, lists = quality_of(ranker, interests[-40:], ["nothing"] * 40)
    assert len(quality.distances) == len(quality.calibrations) == 40
    rows = [model.row(item_id) for item_id in lists[0]]
    similar = model.vectors.take(rows).astype(float) @ model.vectors.take(rows).T.astype(float)
    assert quality.distances[0] == pytest.approx(1.0 - (similar.sum() - np.trace(similar)) / 90.0, abs=1e-6)


def test_calibration_is_the_divergence_of_shares():
    of_user, of_list = np.array([1, 1, 1, 2]), np.array([1, 3])
    given = {1: 0.99 * 0.5 + 0.01 * 0.75, 2: 0.01 * 0.25}
    assert calibration(of_user, of_list) == pytest.approx(
        0.75 * np.log(0.75 / given[1]) + 0.25 * np.log(0.25 / given[2])
    )
