from __future__ import annotations

import math

import pytest
import torch

from streamrec.model.network.config import ModelConfig
from streamrec.model.network.sequence_model import SequenceModel, dropout, sampled_softmax_loss, time_bucket

CONFIG = ModelConfig(dim=16, max_length=8, blocks=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SequenceModel(CONFIG).eval()


def batch(length: int = 6):
    items = torch.nn.functional.normalize(torch.randn(3, length, CONFIG.dim), dim=-1)
    return items, torch.randint(0, 2, (3, length)), torch.rand(3, length).cumsum(1) * 100


def test_what_comes_later_changes_nothing_before(model):
    items, types, times = batch()
    before = model(items, types, times)
    items[:, 4:] = -items[:, 4:]
    types[:, 4:] = 1 - types[:, 4:]
    times[:, 4:] += 1_000
    after = model(items, types, times)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_padding_at_the_end_changes_nothing(model):
    items, types, times = batch()
    padded = model(
        *(torch.nn.functional.pad(x, (0, 0, 0, 2) if x.dim() == 3 else (0, 2)) for x in (items, types, times))
    )
    assert torch.allclose(model(items, types, times), padded[:, :6], atol=1e-6)


def test_order_and_time_matter(model):
    items, types, times = batch()
    with torch.no_grad():
        # the biases begin at zero
        model.time_bias.by_time.normal_()
        model.time_bias.by_steps.normal_()
    swapped = items.clone()
    swapped[:, [1, 2]] = items[:, [2, 1]]
    assert not torch.allclose(model(items, types, times)[:, -1], model(swapped, types, times)[:, -1], atol=1e-4)
    assert not torch.allclose(model(items, types, times)[:, -1], model(items, types, times * 50)[:, -1], atol=1e-4)


def test_time_buckets_double():
    assert time_bucket(torch.tensor([-5.0, 0.0, 1.0, 3.0, 7.0, 1e12])).tolist() == [0, 0, 1, 2, 3, 25]


def test_the_sampled_loss_estimates_the_full_softmax():
    """With weights `1 / (K q)` on negatives alone the sampled partition function is right on average."""
    torch.manual_seed(1)
    items = torch.nn.functional.normalize(torch.randn(40, 8), dim=-1)
    hidden = torch.nn.functional.normalize(torch.randn(1, 8), dim=-1)
    target, temperature, k = 3, torch.tensor(0.5), 64
    full = torch.nn.functional.cross_entropy(hidden @ items.T / temperature, torch.tensor([target]))
    q = torch.softmax(torch.randn(40), 0)
    partition = []
    for _ in range(400):
        drawn = torch.multinomial(q, k, replacement=True)
        loss = sampled_softmax_loss(
            hidden, items[[target]], items[drawn], torch.log(k * q[drawn]), (drawn == target)[None], temperature
        )
        partition.append(torch.exp(loss - full))
    assert math.isclose(torch.cat(partition).mean(), 1.0, abs_tol=0.02)


def test_a_negative_that_is_the_target_is_left_out():
    unit = torch.nn.functional.normalize(torch.randn(2, 8), dim=-1)
    loss = sampled_softmax_loss(unit[:1], unit[1:], unit[1:], torch.zeros(1), torch.tensor([[True]]), torch.tensor(0.1))
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_a_target_without_any_negative_has_a_gradient_of_zero():
    unit = torch.nn.functional.normalize(torch.randn(2, 8), dim=-1).requires_grad_()
    sampled_softmax_loss(
        unit[:1], unit[1:], unit[1:], torch.zeros(1), torch.tensor([[True]]), torch.tensor(0.1)
    ).backward()

    assert unit.grad.abs().max() < 1e-6


def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    dropped = dropout(torch.ones(200, 100), 0.3, active=True)

    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(dropout(torch.ones(3), 0.3, active=False), torch.ones(3))


@pytest.mark.parametrize("changes", [{"dim": 15}, {"blocks": 0}, {"max_length": 0}])
def test_a_shape_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="invalid network shape"):
        ModelConfig(**changes)
