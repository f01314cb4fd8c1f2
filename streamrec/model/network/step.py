"""Input of a gradient step, as tensors on any device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from streamrec.model.network.micro_batch import Padded
from streamrec.model.tables.content import BUCKETS, MAX_PARTS


@dataclass(frozen=True, slots=True)
class Negatives:
    """Negatives shared by all targets of a step.

    Attributes
    ----------
    rows
        `(K,)`, may repeat.
    log_expected_count
        Log of the expected count of each in such a sample, `(K,)`.
    """

    rows: np.ndarray
    log_expected_count: np.ndarray


class Step(NamedTuple):
    """A gradient step; padding has no effect.

    Shapes: B sequences of L events, T targets, K negatives, N rows of P parts, M buckets of content.

    Attributes
    ----------
    rows
        Rows of items, 0 for padding, `(N,)`.
    events, negatives
        Indices into `rows` of each event and each negative, `(B, L)` and `(K,)`.
    log_expected_count
        Log of the expected count of each negative in the sample, `(K,)`.
    event_types, times_s
        Of each event, `(B, L)`.
    before
        Index into all `B * L` events of the event before each target, `(T,)`.
    weights
        Of the targets, `(T,)`.
    learns
        1 for trained rows, 0 for the others, `(N,)`.
    buckets
        Buckets of content, 0 for padding, `(M,)`.
    parts, shares
        Index into `buckets` of each part of each row, and its share of the row's content, `(N, P)`.
    """

    rows: Tensor
    events: Tensor
    negatives: Tensor
    log_expected_count: Tensor
    event_types: Tensor
    times_s: Tensor
    before: Tensor
    weights: Tensor
    learns: Tensor
    buckets: Tensor
    parts: Tensor
    shares: Tensor

    @classmethod
    def of(
        cls, padded: Padded, negatives: Negatives, content: np.ndarray, admitted: Callable[[np.ndarray], np.ndarray]
    ) -> Self:
        """Return the step that trains on sequences.

        Parameters
        ----------
        content
            Buckets of each row, `(rows, P)`.
        admitted
            Returns which of some rows are trained.
        """
        rows, inverse = np.unique(np.concatenate([padded.rows.ravel(), negatives.rows]), return_inverse=True)
        events, negative_at = inverse[: padded.rows.size], inverse[padded.rows.size :]
        targets = padded.weights[:, 1:]
        users, places = np.nonzero(targets)
        parts = content[rows]
        parts = parts[:, : (parts > 0).sum(1).max()]
        buckets, bucket_at = np.unique(parts, return_inverse=True)
        return cls(
            rows=torch.from_numpy(rows),
            events=torch.from_numpy(events.reshape(padded.rows.shape)),
            negatives=torch.from_numpy(negative_at),
            log_expected_count=torch.from_numpy(negatives.log_expected_count),
            event_types=torch.from_numpy(padded.event_types),
            times_s=torch.from_numpy(padded.times_s),
            before=torch.from_numpy(users * padded.rows.shape[1] + places),
            weights=torch.from_numpy(targets[users, places]),
            learns=torch.from_numpy(admitted(rows).astype(np.float32)),
            buckets=torch.from_numpy(buckets),
            parts=torch.from_numpy(bucket_at.reshape(parts.shape)),
            shares=torch.from_numpy(shares_of(parts)),
        )

    def filled(self, max_length: int) -> Step:
        """Pad the step to one of a few shapes, determined by B, L and K: B and L become powers of two."""
        sequences, length = self.events.shape
        wide = height, width = _power_of_two(sequences), min(_power_of_two(length), max_length)
        # one extra row as padding for events to refer to
        rows = height * width + len(self.negatives) + 1
        # all events but the last precede a target, most of them one without weight
        before = torch.arange(height * width - 1)
        weights = self.weights.new_zeros(len(before))
        weights[self.before // length * width + self.before % length] = self.weights
        # parts without a share refer to varying buckets: a GPU accumulates many gradients of a single bucket slowly
        buckets = min(rows * MAX_PARTS, BUCKETS)
        parts = (torch.arange(rows * MAX_PARTS) % buckets).view(rows, MAX_PARTS)
        shares = _filled(self.shares, (rows, MAX_PARTS))
        return Step(
            rows=_filled(self.rows, rows),
            events=_filled(self.events, wide, rows - 1),
            negatives=self.negatives,
            log_expected_count=self.log_expected_count,
            event_types=_filled(self.event_types, wide),
            times_s=_filled(self.times_s, wide),
            before=before,
            weights=weights,
            learns=_filled(self.learns, rows),
            buckets=_filled(self.buckets, buckets),
            parts=torch.where(shares > 0, _filled(self.parts, (rows, MAX_PARTS)), parts),
            shares=shares,
        )

    def on(self, device: torch.device) -> Step:
        """Return the step on a device; transfers to a GPU are asynchronous."""
        if device.type != "cuda":
            return Step(*(tensor.to(device) for tensor in self))
        return Step(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in self))


def shares_of(parts: np.ndarray) -> np.ndarray:
    """Return the share of each part in an item's content, zero for bucket 0, `(n, P)`, float32."""
    is_part = parts > 0
    shares: np.ndarray = (is_part / np.maximum(is_part.sum(1, keepdims=True), 1)).astype(np.float32)
    return shares


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _filled(tensor: Tensor, shape: int | tuple[int, ...], value: int = 0) -> Tensor:
    """Return the tensor padded to a larger size."""
    larger = tensor.new_full((shape,) if isinstance(shape, int) else shape, value)
    larger[tuple(slice(size) for size in tensor.shape)] = tensor
    return larger
