from __future__ import annotations

import numpy as np
import pytest
import torch
from interests import ITEMS_PER_THEME, stream

from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Learner
from streamrec.model.network.micro_batch import pad
from streamrec.model.network.step import Step
from streamrec.model.tables.content import MAX_PARTS


def test_a_training_step_mixes_no_devices(monkeypatch):
    """On a device without memory, which refuses every tensor that was left on the CPU, as a GPU does."""
    adam = torch.optim.Adam
    monkeypatch.setattr(
        torch.optim, "Adam", lambda parameters, **options: adam(parameters, **options | {"fused": False})
    )
    learner = _learner(torch.device("meta"))
    assert len(learner.train(_batches(1)[0], 101)) > 50


def test_what_a_step_is_filled_up_with_teaches_nothing(monkeypatch):
    plain, filled = _learner(torch.device("cpu")), _learner(torch.device("cpu"))
    batches = _batches(5)
    changed = [plain.train(batch, 101) for batch in batches]
    exact = Step.of
    monkeypatch.setattr(Step, "of", lambda *arguments: exact(*arguments).filled(20))
    for batch, rows in zip(batches, changed, strict=True):
        np.testing.assert_array_equal(filled.train(batch, 101), rows)
    _assert_close(filled, plain, 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are of a GPU")
def test_steps_from_a_graph_teach_what_steps_one_by_one_do():
    replayed, one_by_one = _learner(torch.device("cuda")), _learner(torch.device("cuda"))
    for batch in _batches(8):
        replayed.train(batch, 101)
        one_by_one.set_rates(1.0)  # graphs are forgotten then
        one_by_one.train(batch, 101)
    _assert_close(replayed, one_by_one, 1e-3)


def _learner(device):
    """Return a learner that knows 100 items, every second with a direction, most with content."""
    learner = Learner(ModelConfig(dim=16, max_length=20, dropout=0.0), device=device, seed=0)
    for row in range(1, 101):
        buckets = np.zeros(MAX_PARTS, np.int64)
        buckets[: row % 4] = 1 + np.arange(row % 4) * 7 + row % 5
        learner.add_item(row, buckets, np.full(16, 0.25, np.float32) if row % 2 else None)
    learner.recent.extend(range(1, 101))
    return learner


def _batches(count):
    """Return batches of 40 sequences, not a power of two, of a stream."""
    histories = [
        (interest.sequence, [len(interest.sequence) - 1], [_row(event.item_id) for event in interest.sequence])
        for interest in stream(40 * (count + 5))
    ]
    return [pad(histories[start : start + 40], 20) for start in range(200, 200 + 40 * count, 40)]


def _assert_close(one, other, tolerance):
    expected = other.state(101)
    for name, value in one.state(101).items():
        np.testing.assert_allclose(value, expected[name], atol=tolerance, rtol=tolerance, err_msg=name)


def _row(item_id):
    theme, index = item_id.split("-")
    return 1 + ITEMS_PER_THEME * int(theme) + int(index)
