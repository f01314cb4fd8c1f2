"""Weights of an earlier release, which knew fewer features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamrec.model.network.adam import Adam
from streamrec.model.network.weights import weights_of
from streamrec.model.ranking.blend import _UNNAMED as FEATURES
from streamrec.model.ranking.blend import Blend, blend_for, rearranged
from streamrec.model.retrievers.channels import DEFAULT, retrievers_of
from streamrec.model.tensors import below
from streamrec.model.training.blend_network import BlendNetwork
from streamrec.model.training.groups import Group
from streamrec.model.training.stacking import Stacking

KNOWN = 26


def learned(blend):
    """Return a network of a blend after it has learned."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BlendNetwork(blend)
        for weight in network.parameters():
            torch.nn.init.normal_(weight)
        return network


def earlier():
    """Return the network of an earlier release, and features for it."""
    network = learned(Blend.new(FEATURES[:KNOWN], {}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return network, torch.rand(5, len(FEATURES))


def in_order_of(blend, features):
    return torch.from_numpy(rearranged(features.numpy(), FEATURES, blend.features))


def test_what_serves_scores_as_the_network_that_is_trained():
    network, features = earlier()
    served = Blend.of(network.weights())
    asked = 40 * (features[:, :KNOWN] - 0.5)  # far beyond what an exponential can hold
    np.testing.assert_allclose(served.scores(asked.numpy()), network(asked).detach().numpy(), rtol=1e-4)
    again = Blend.of(served.weights()).scores(asked.numpy())
    assert np.array_equal(again, served.scores(asked.numpy()))


@pytest.mark.parametrize("name", ["linear.weight", "hidden.weight", "hidden.bias", "out.weight"])
def test_what_are_not_the_weights_of_a_blend_is_refused(name):
    weights = earlier()[0].weights()
    with pytest.raises(ValueError, match=name):
        Blend.of({**weights, name: weights[name][..., None]})


def test_a_blend_that_knew_fewer_features_scores_as_before_but_for_the_prior_of_the_others():
    before, features = earlier()
    blend = BlendNetwork(blend_for(retrievers_of(DEFAULT)))
    prior = torch.from_numpy(rearranged(weights_of(blend)["linear.weight"][0], blend.features, FEATURES[KNOWN:]))
    blend.load(weights_of(before))

    expected = before(features[:, :KNOWN]) + features[:, KNOWN:] @ prior
    torch.testing.assert_close(blend(in_order_of(blend, features)), expected)
    assert prior.any()


def test_a_blend_of_other_channels_scores_as_before_what_both_know():
    before = learned(blend_for(retrievers_of(DEFAULT)))
    features = torch.rand(5, len(before.features), generator=torch.Generator().manual_seed(1))
    blend = BlendNetwork(blend_for(retrievers_of(["popular", "neighbour"])))
    blend.load(before.weights())

    of_both = torch.tensor([float(name in blend.features) for name in before.features])
    asked = torch.from_numpy(rearranged(features.numpy(), before.features, blend.features))
    torch.testing.assert_close(blend(asked), before(features * of_both))


def test_an_optimizer_that_knew_fewer_features_remembers_what_it_knew():
    before, features = earlier()
    optimizer = Adam(before.parameters(), learning_rate=0.1)
    before(features[:, :KNOWN]).sum().backward()
    optimizer.step()
    state = optimizer.state()
    blend = BlendNetwork(blend_for(retrievers_of(DEFAULT)))
    restored = Adam(blend.parameters(), learning_rate=0.1)
    restored.load(blend.moments(weights_of(before), state))

    for name, value in restored.state().items():
        expected = state[name]
        if value.ndim and expected.shape[-1] == KNOWN:
            expected = rearranged(expected, FEATURES[:KNOWN], blend.features)
        assert np.array_equal(value, expected)


def test_the_average_of_the_weights_serves_also_after_a_restart():
    def new():
        return Stacking(hide_seen=False, retrievers=retrievers_of(["popular", "neighbour"]), seed=0)

    def served(stacking):
        return below("blend", stacking.changes())["linear.weight"]

    stacking, restored, earlier_release = new(), new(), new()
    features = np.random.default_rng(0).random((6, len(stacking.blend.features))).astype(np.float16)
    group = Group(features, np.array([4, 2]), np.array([1, 1]))
    weights = []
    for _ in range(5):
        stacking._train(group)
        weights.append(weights_of(stacking.blend)["linear.weight"])
    np.testing.assert_allclose(served(stacking), np.mean(weights, axis=0), rtol=1e-5)

    state = stacking.state()
    restored.load(state)
    earlier_release.load({name: value for name, value in state.items() if not name.startswith("average.")})
    assert np.array_equal(served(restored), served(stacking))
    assert np.array_equal(served(earlier_release), weights[-1])
    for each in (stacking, restored):
        each._train(group)
    assert np.array_equal(served(restored), served(stacking))
    assert not np.array_equal(served(restored), weights_of(restored.blend)["linear.weight"])
