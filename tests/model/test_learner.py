from __future__ import annotations

import numpy as np
import torch
from interests import ITEMS_PER_THEME, stream

from streamrec.model.content import MAX_PARTS
from streamrec.model.learner import Learner
from streamrec.model.micro_batch import pad
from streamrec.model.sequence_model import ModelConfig


def test_a_training_step_mixes_no_devices(monkeypatch):
    """On a device without memory, which refuses every tensor that was left on the CPU, as a GPU does."""
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda parameters, *, lr, fused: adam(parameters, lr=lr, fused=not fused))
    learner = Learner(ModelConfig(dim=16, max_length=20), device=torch.device("meta"), seed=0)
    for row in range(1, 101):
        learner.add_item(row, np.array([row % 5] * MAX_PARTS), np.ones(16, np.float32) if row % 2 else None)
    learner.recent.extend(range(1, 101))
    histories = [
        (interest.sequence, [len(interest.sequence) - 1], [_row(event.item_id) for event in interest.sequence])
        for interest in stream(40)
    ]
    assert len(learner.train(pad(histories, 20), 101)) > 50


def _row(item_id):
    theme, index = item_id.split("-")
    return 1 + ITEMS_PER_THEME * int(theme) + int(index)
