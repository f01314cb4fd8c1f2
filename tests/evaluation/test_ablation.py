"""What a part is worth, and that every variant changes something that is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamrec.evaluation.ablation import UNCHANGED, VARIANTS, Outcome, worth
from streamrec.evaluation.metrics import NOT_LISTED
from streamrec.model.network.adam import Adam
from streamrec.model.ranking.blend import Blend, blend_for
from streamrec.model.retrievers.channels import DEFAULT, retrievers_of
from streamrec.model.training import effort
from streamrec.model.training.blend_network import BlendNetwork


@pytest.fixture(params=[change for variant in VARIANTS.values() for change in variant.changes])
def changed(request):
    """Apply a change, and take it back."""
    owner, name, value = request.param.args
    before = getattr(owner, name)
    request.param()
    yield before, value
    setattr(owner, name, before)


def test_a_change_is_one(changed):
    before, value = changed
    assert before is not value


def test_shapes_travel_with_a_version():
    assert all(variant.shape.keys() <= {"dim", "blocks", "heads", "feedforward"} for variant in VARIANTS.values())
    assert all(bool(variant.changes) != bool(variant.shape) for name, variant in VARIANTS.items() if name != UNCHANGED)


def test_a_hidden_feature_has_no_weight(monkeypatch):
    blend = blend_for(retrievers_of(DEFAULT))
    features = torch.rand(5, len(blend.features))
    other = features.clone()
    other[:, blend.features.index("neighbour")] += 1.0
    assert not torch.equal(BlendNetwork(blend)(features), BlendNetwork(blend)(other))
    for change in VARIANTS["blend: no neighbours"].changes:
        monkeypatch.setattr(*change.args)
    network = BlendNetwork(blend)
    optimizer = Adam(network.parameters(), learning_rate=0.1)
    for _ in range(3):
        optimizer.forget_gradients()
        network(features).square().sum().backward()
        optimizer.step()
    assert torch.equal(network(features), network(other))
    served = Blend.of(network.weights())
    assert np.array_equal(served.scores(features.numpy()), served.scores(other.numpy()))


def test_worth_is_relative_to_the_unchanged_model():
    users = np.array([0, 0, 1, 1])
    as_it_is = Outcome(np.array([0, 0, 0, 0]), users, 0, 1.0)
    variant = Outcome(np.array([0, NOT_LISTED, 0, NOT_LISTED]), users, 1, 2.0)
    found = worth("half", variant, as_it_is, seed=0)
    assert (found.ndcg_at_10, found.hit_rate_at_10, found.gain, found.gain_interval) == (0.5, 0.5, -0.5, (-0.5, -0.5))


@pytest.mark.parametrize(("name", "visits"), [("training: one pass, not two", 1), ("training: four passes", 4)])
def test_sequences_of_a_micro_batch_are_visited_so_often(monkeypatch, name, visits):
    for change in VARIANTS[name].changes:
        monkeypatch.setattr(*change.args)
    # 64 is the micro-batch of an evaluation
    assert effort.visits(64) == visits
