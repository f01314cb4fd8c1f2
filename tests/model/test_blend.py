"""Weights of an earlier release, which knew fewer features."""

from __future__ import annotations

import numpy as np
import torch

from streamrec.model.network.adam import Adam
from streamrec.model.ranking.blend import _UNNAMED as FEATURES
from streamrec.model.ranking.blend import Blend, blend_for, rearranged
from streamrec.model.retrievers.channels import DEFAULT, retrievers_of
from streamrec.model.tensors import weights_of

KNOWN = 26


def earlier():
    """Return the blend of an earlier release after it has learned, and its features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blend = Blend(FEATURES[:KNOWN], {})
        for weight in blend.parameters():
            torch.nn.init.normal_(weight)
        return blend, torch.rand(5, len(FEATURES))


def in_order_of(blend, features):
    return torch.from_numpy(rearranged(features.numpy(), FEATURES, blend.features))


def test_a_blend_that_knew_fewer_features_scores_as_before_but_for_the_prior_of_the_others():
    before, features = earlier()
    blend = blend_for(retrievers_of(DEFAULT))
    prior = torch.from_numpy(rearranged(weights_of(blend)["linear.weight"][0], blend.features, FEATURES[KNOWN:]))
    blend.load(weights_of(before))

    expected = before(features[:, :KNOWN]) + features[:, KNOWN:] @ prior
    torch.testing.assert_close(blend(in_order_of(blend, features)), expected)
    assert prior.any()


def test_a_blend_of_other_channels_scores_as_before_what_both_know():
    before = blend_for(retrievers_of(DEFAULT))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for weight in before.parameters():
            torch.nn.init.normal_(weight)
        features = torch.rand(5, len(before.features))
    blend = blend_for(retrievers_of(["popular", "neighbour"]))
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
    blend = blend_for(retrievers_of(DEFAULT))
    restored = Adam(blend.parameters(), learning_rate=0.1)
    restored.load(blend.moments(weights_of(before), state))

    for name, value in restored.state().items():
        expected = state[name]
        if value.ndim and expected.shape[-1] == KNOWN:
            expected = rearranged(expected, FEATURES[:KNOWN], blend.features)
        assert np.array_equal(value, expected)
