"""Weights of an earlier release, which knew fewer features."""

from __future__ import annotations

import numpy as np
import torch

from streamrec.model.network.adam import Adam
from streamrec.model.ranking.blend import FEATURES, Blend
from streamrec.model.tensors import weights_of

KNOWN = 26


def earlier():
    """Return the blend of an earlier release after it has learned, and its features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blend = Blend(FEATURES[:KNOWN])
        for weight in blend.parameters():
            torch.nn.init.normal_(weight)
        return blend, torch.rand(5, len(FEATURES))


def test_a_blend_that_knew_fewer_features_scores_as_before_but_for_the_prior_of_the_others():
    before, features = earlier()
    blend = Blend()
    prior = torch.from_numpy(weights_of(blend)["linear.weight"][0, KNOWN:])
    blend.load(weights_of(before))

    expected = before(features[:, :KNOWN]) + features[:, KNOWN:] @ prior
    torch.testing.assert_close(blend(features), expected)
    assert prior.any()


def test_an_optimizer_that_knew_fewer_features_remembers_what_it_knew():
    before, features = earlier()
    optimizer = Adam(before.parameters(), learning_rate=0.1)
    before(features[:, :KNOWN]).sum().backward()
    optimizer.step()
    state = optimizer.state()
    restored = Adam(Blend().parameters(), learning_rate=0.1)
    restored.load(state)

    for name, value in restored.state().items():
        if value.ndim:
            assert np.array_equal(value[..., : state[name].shape[-1]], state[name])
            assert not value[..., state[name].shape[-1] :].any()
        else:
            assert value == state[name]
