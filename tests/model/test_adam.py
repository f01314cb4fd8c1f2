"""The optimizer of dense weights, against torch's own class."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from streamrec.model.network.adam import Adam


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def backward(model, step):
    generator = torch.Generator().manual_seed(step)
    model(torch.randn(8, 3, generator=generator)).square().sum().backward()


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.fixture
def trained():
    model = network()
    optimizer = Adam(model.parameters(), learning_rate=0.01)
    for step in range(5):
        optimizer.forget_gradients()
        backward(model, step)
        optimizer.step()
    return model, optimizer


def test_steps_are_those_of_torch(trained):
    reference = network()
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01, fused=True)
    for step in range(5):
        optimizer.zero_grad()
        backward(reference, step)
        optimizer.step()

    assert all(map(torch.equal, weights(trained[0]), weights(reference)))


def test_a_restored_one_goes_on_as_if_nothing_had_happened(trained):
    model, optimizer = trained
    other = network()
    other.load_state_dict(model.state_dict())
    restored = Adam(other.parameters(), learning_rate=0.01)
    restored.load(optimizer.state())
    for each, its_optimizer in ((model, optimizer), (other, restored)):
        its_optimizer.forget_gradients()
        backward(each, 6)
        its_optimizer.step()

    assert all(map(torch.equal, weights(model), weights(other)))


def test_what_has_no_gradient_stays(trained):
    model, optimizer = trained
    before = weights(model)
    optimizer.forget_gradients()
    optimizer.step()

    assert all(map(torch.equal, before, weights(model)))


def test_a_trainer_does_not_import_torchs_compiler():
    program = """
import sys, torch
from streamrec.model.network.learner import Learner
from streamrec.model.network.config import ModelConfig
Learner(ModelConfig(), device=torch.device("cpu"), seed=0).optimizer.step()
sys.exit("torch._dynamo" in sys.modules)
"""

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
