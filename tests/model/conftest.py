from __future__ import annotations

import pytest
import torch

from streamrec.model.network.config import ModelConfig
from streamrec.model.retrievers.channels import DEFAULT
from streamrec.model.training.rules import Rules
from streamrec.model.training.trainer import Trainer


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request):
    """Return where networks train: on a machine with a GPU every test of a trainer runs there too."""
    return torch.device(request.param)


@pytest.fixture
def new_trainer(tmp_path, device):
    """Open a trainer of a small network on a directory of checkpoints, in place of the one before it."""
    opened = {}

    def open_trainer(directory="model", *, seed=0, dim=16, hide_seen=True, admit_after=1, channels=DEFAULT):
        if directory in opened:  # a process that died writes no more; a thread of this one would
            opened[directory].wait_until_saved()
        opened[directory] = Trainer(
            ModelConfig(dim=dim, max_length=20),
            Rules(hide_seen, admit_after, channels, seed),
            device=device,
            checkpoints=tmp_path / directory,
        )
        return opened[directory]

    return open_trainer
