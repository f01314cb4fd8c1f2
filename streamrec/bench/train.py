"""Speed of gradient steps by number of items."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np
import torch
from msgspec import Struct

from streamrec.errors import UsageError
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import RECENT_EVENTS, Learner
from streamrec.model.network.micro_batch import Padded
from streamrec.model.tables.vocabulary import grown
from streamrec.model.training.online_model import MAX_SEQUENCES, TRAINED_LENGTH

WARM_UP_STEPS = 5


class TrainSpeed(Struct, kw_only=True):
    """Forward, backward and optimizer on full micro-batches; a token is an event of a sequence."""

    items: int
    device: str
    threads: int
    tokens_per_s: float
    """Median over the steps."""
    slowest_tokens_per_s: float
    """90th percentile over the steps."""


def measure(sizes: Sequence[int], *, device: str, threads: int, steps: int, seed: int) -> Iterator[TrainSpeed]:
    """Yield the speed with each number of items.

    Raises
    ------
    UsageError
        If the device is not available.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("torch finds no GPU; use --device cpu")
    torch.set_num_threads(threads)
    for items in sizes:
        learner = _learner(items, device=device, seed=seed)
        rng = np.random.default_rng(seed)
        batches = [_batch(items, rng) for _ in range(WARM_UP_STEPS + steps)]
        times_s = [_timed(learner, batch, items) for batch in batches][WARM_UP_STEPS:]
        tokens = MAX_SEQUENCES * TRAINED_LENGTH
        yield TrainSpeed(
            items=items,
            device=device,
            threads=threads,
            tokens_per_s=round(tokens / median(times_s)),
            slowest_tokens_per_s=round(tokens / float(np.percentile(times_s, 90))),
        )


def _learner(items: int, *, device: str, seed: int) -> Learner:
    learner = Learner(ModelConfig(), device=torch.device(device), seed=seed)
    learner.items.reserve(items + 1)
    learner.items.reset(torch.arange(1, items + 1), torch.Generator().manual_seed(seed))
    learner.buckets = grown(learner.buckets, items + 1)
    learner.recent.extend(np.random.default_rng(seed).integers(1, items + 1, RECENT_EVENTS).tolist())
    return learner


def _batch(items: int, rng: np.random.Generator) -> Padded:
    shape = (MAX_SEQUENCES, TRAINED_LENGTH)
    weights = np.ones(shape, np.float32)
    weights[:, 0] = 0.0
    return Padded(
        rows=rng.integers(1, items + 1, shape),
        event_types=np.zeros(shape, np.int64),
        times_s=np.cumsum(rng.exponential(60.0, shape), axis=1).astype(np.float32),
        weights=weights,
    )


def _timed(learner: Learner, batch: Padded, items: int) -> float:
    started_s = time.perf_counter()
    learner.train(batch, items + 1)
    if learner.device.type == "cuda":
        torch.cuda.synchronize()  # steps are asynchronous
    return time.perf_counter() - started_s
