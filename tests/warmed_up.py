"""Fails with each loop that is compiled after the warm-up: `python tests/warmed_up.py DIRECTORY`.

A loop is compiled again for arrays of another type or layout, and whether a slice is contiguous depends on its length.
So versions, users and candidates here are few and many, and some are missing.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import torch
from interests import stream
from numba.core.registry import CPUDispatcher
from rankers import clicked, ranker_of

import streamrec.model
from streamrec.contracts.derived import UserInterest
from streamrec.contracts.incoming import Item
from streamrec.model import warm_up
from streamrec.model.network.config import ModelConfig
from streamrec.model.retrievers.channels import DEFAULT
from streamrec.model.training.rules import Rules
from streamrec.model.training.trainer import Trainer


def loops() -> Iterator[tuple[str, CPUDispatcher]]:
    for found in pkgutil.walk_packages(streamrec.model.__path__, "streamrec.model."):
        for name, value in vars(import_module(found.name)).items():
            if isinstance(value, CPUDispatcher) and value.__module__ == found.name:
                yield f"{found.name}.{name}", value


def opened(directory: Path) -> Trainer:
    rules = Rules(hide_seen=True, admit_after=1, channels=DEFAULT, seed=0)
    return Trainer(ModelConfig(dim=16, max_length=20), rules, device=torch.device("cpu"), checkpoints=directory)


def use(directory: Path) -> None:
    trainer, records = opened(directory), []
    interests = stream(400)
    for item in range(5):
        trainer.put_item(Item(item_id=f"0-{item}", title=f"title {item}", category="one"))
    for first, last in ((0, 1), (1, 2), (2, 40), (40, 300)):
        trainer.train(interests[first:last], behind=0)
        records.append(trainer.take_update())
        rank(records, interests)
    trainer.delete_item("0-1")
    trainer.save(b"")
    trainer.wait_until_saved()
    restored = opened(directory)
    restored.train(interests[300:], behind=0)
    rank([restored.take_update(whole=True)], interests)


def rank(records: list[list[bytes]], interests: list[UserInterest]) -> None:
    ranker = ranker_of(records)
    ranker.put_item(Item(item_id="new", title="a title", category="two"))
    newcomer = [clicked("never seen", user_id="newcomer")]
    for users in (interests[:1], newcomer, newcomer + interests[:1], interests[-30:] + newcomer):
        for k in (1, 10, 100):
            ranker.rank(users, k=k)
            ranker.popular(users, k=k)
    ranker.default(k=10)


def main() -> None:
    warm_up.main()
    warm = {name: len(loop.signatures) for name, loop in loops()}
    use(Path(sys.argv[1]))
    compiled = [f"{name} {signature}" for name, loop in loops() for signature in loop.signatures[warm[name] :]]
    sys.exit("\n".join(compiled) or None)


if __name__ == "__main__":
    main()
