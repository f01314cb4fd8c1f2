"""Batches and records for tests, in the fewest words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamrec.evaluation.sequences import Sequences
from streamrec.service.batch import Batch, Record, Slice, TopicPartition

NOW_MS = 1_760_000_000_000
"""When the records of tests are produced."""


def click(user_id: str, item_id: str, at_ms: int = NOW_MS, **fields: Any) -> bytes:
    return json.dumps({"user_id": user_id, "item_id": item_id, "event_time_ms": at_ms, **fields}).encode()


def part(
    topic: str,
    values: Sequence[bytes | None],
    *,
    start: int = 0,
    partition: int = 0,
    key: bytes | None = None,
    headers: Mapping[str, bytes] | None = None,
) -> Slice:
    records = [Record(start + index, NOW_MS, key, value, headers or {}) for index, value in enumerate(values)]
    return Slice(TopicPartition(topic, partition), start, start + len(values), records)


def batch(*slices: Slice) -> Batch:
    return Batch(list(slices))


def sequences(*lists: list[int]) -> Sequences:
    """Return sequences of these rows, one event per second."""
    starts = np.cumsum([0, *(len(one) for one in lists)])
    rows = np.array([row for one in lists for row in one], np.int64)
    return Sequences(rows, starts, np.arange(len(rows), dtype=np.float32))
