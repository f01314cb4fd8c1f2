"""Arrays or documents of a checkpoint that come, go or change their type make another format."""

from __future__ import annotations

import json
from pathlib import Path

from interests import stream

from streamrec.model.training import checkpoint

FILES = Path(__file__).parents[1] / "formats"


def outline(document):
    """Return the names in an object, and of anything else its kind."""
    return sorted(document) if isinstance(document, dict) else type(document).__name__


def test_a_checkpoint_keeps_its_names_as_long_as_its_format(new_trainer):
    trainer = new_trainer()
    interests = stream(120)
    trainer.train(interests[:60], behind=0)
    trainer.take_update()
    trainer.train(interests[60:], behind=0)  # the first version is tested
    trainer.save(b"{}")
    trainer.wait_until_saved()
    tensors, documents = checkpoint.read(trainer.checkpoints, checkpoint.numbers(trainer.checkpoints)[-1])
    layout = {
        "tensors": {name: f"{value.dtype}, {value.ndim} axes" for name, value in sorted(tensors.items())},
        "documents": {name: outline(json.loads(document)) for name, document in sorted(documents.items())},
    }

    assert json.loads((FILES / f"checkpoint-layout-{checkpoint.FORMAT}.json").read_text()) == layout
