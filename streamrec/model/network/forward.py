"""Serving implementation of the sequence model on plain arrays, for the latest event of each user.

The same arithmetic as :class:`~streamrec.model.network.sequence_model.SequenceModel`, without gradients. Torch's call
overhead is a millisecond for a batch of a few users; here the events of all users are concatenated, and only attention
pads them. Matrix products still use torch: numpy's use a thread per core, and wait for all of them, even if a core is
busy.
"""

from __future__ import annotations

import numpy as np
import torch

from streamrec.model.network.sequence_model import TIME_BUCKETS, LigrBlock, SequenceModel

_EPSILON = float(torch.finfo(torch.float32).eps)


class Encoder:
    """A network with a copy of a model's weights.

    Shapes: B users, E events of all of them, L events of the longest sequence, D width, H heads.
    """

    def __init__(self, model: SequenceModel) -> None:
        self.config = model.config
        self._item_scale = float(model.item_scale.detach())
        self._event_type, self._by_steps = _array(model.event_type), _array(model.time_bias.by_steps)
        self._gap = _by_bucket(model.gap, self.config.dim)
        self._by_time = _by_bucket(model.time_bias.by_time, self.config.heads)
        self._blocks = [_Block(block) for block in model.blocks if isinstance(block, LigrBlock)]
        self._out_norm, self._out = _array(model.out_norm.weight), _Linear(model.out.weight)

    def __call__(
        self, items: np.ndarray, event_types: np.ndarray, times_s: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Return the predicted unit vector of each user's next item, `(B, D)`.

        Parameters
        ----------
        items
            Unit item vectors, concatenated by user, oldest first, `(E, D)`.
        event_types
            `(E,)`.
        times_s
            Event times in seconds from any origin per user, float32, `(E,)`.
        counts
            Number of events of each user, from one to `max_length`, `(B,)`.
        """
        layout = _Layout(counts)
        gaps = np.zeros_like(times_s)
        np.subtract(times_s[1:], times_s[:-1], out=gaps[1:])
        gaps[layout.ends - counts] = 0.0
        x = self._item_scale * items
        x += self._event_type[event_types]
        x += self._gap[_time_bucket(gaps)]
        padded_s = layout.padded(times_s[:, None])[:, :, 0]
        for block in self._blocks[:-1]:
            x = block(x, layout, self._bias(padded_s, np.arange(layout.length)[None], padded_s), asked=None)
        last = counts - 1
        bias = self._bias(padded_s, last[:, None], padded_s[np.arange(len(last)), last][:, None])
        x = self._blocks[-1](x, layout, bias, asked=last)
        x = self._out(_normed(x, self._out_norm))
        unit: np.ndarray = x / np.maximum(np.sqrt(np.einsum("bd,bd->b", x, x)), 1e-12)[:, None]
        return unit

    def _bias(self, times_s: np.ndarray, looking: np.ndarray, looking_s: np.ndarray) -> np.ndarray:
        """Return the attention bias for distance in steps and time, -inf for later events, `(B, H, Q, L)`."""
        steps = looking[:, :, None] - np.arange(times_s.shape[1])
        bucket = _time_bucket(looking_s[:, :, None] - times_s[:, None, :])
        bias = self._by_time[bucket] + self._by_steps[np.maximum(steps, 0)]
        bias[np.broadcast_to(steps < 0, bucket.shape)] = -np.inf
        by_head: np.ndarray = bias.transpose(0, 3, 1, 2)
        return by_head


class _Layout:
    """Positions of each user's events in flat and padded layout."""

    def __init__(self, counts: np.ndarray) -> None:
        self.length = int(counts.max())
        self.ends = np.cumsum(counts)
        self.users = np.repeat(np.arange(len(counts)), counts)
        self.places = np.arange(len(self.users)) - (self.ends - counts)[self.users]

    def padded(self, flat: np.ndarray) -> np.ndarray:
        """Pad by user, `(E, ...)` to `(B, L, ...)`."""
        side_by_side = np.zeros((len(self.ends), self.length, *flat.shape[1:]), flat.dtype)
        side_by_side[self.users, self.places] = flat
        return side_by_side


class _Block:
    """A LiGR block."""

    def __init__(self, block: LigrBlock) -> None:
        self._heads = block.heads
        self._attention_norm = _array(block.attention_norm.weight)
        query, *key_value = block.query_key_value.weight.chunk(3)
        self._query, self._key_value = _Linear(query), _Linear(torch.cat(key_value))
        self._attention_out = _Linear(block.attention_out.weight)
        self._attention_gate = _Gate(block.attention_gate)
        self._feedforward_norm = _array(block.feedforward_norm.weight)
        self._feedforward_in = _Linear(block.feedforward_in.weight)
        self._feedforward_out = _Linear(block.feedforward_out.weight)
        self._feedforward_gate = _Gate(block.feedforward_gate)

    def __call__(self, x: np.ndarray, layout: _Layout, bias: np.ndarray, *, asked: np.ndarray | None) -> np.ndarray:
        """Apply the block, `(E, D)`; return all events, or each user's `asked` one, the last, `(B, D)`."""
        normed = _normed(x, self._attention_norm)
        key_value = layout.padded(self._key_value(normed))
        if asked is None:
            query = layout.padded(self._query(normed))
            mixed = self._attend(query, key_value, bias)[layout.users, layout.places]
        else:
            x, normed = x[layout.ends - 1], normed[layout.ends - 1]
            mixed = self._attend(self._query(normed)[:, None], key_value, bias)[:, 0]
        x = x + self._attention_gate(normed) * self._attention_out(mixed)
        normed = _normed(x, self._feedforward_norm)
        gate, inner = np.split(self._feedforward_in(normed), 2, axis=1)
        inner *= gate * _sigmoid(gate)
        gated: np.ndarray = x + self._feedforward_gate(normed) * self._feedforward_out(inner)
        return gated

    def _attend(self, query: np.ndarray, key_value: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Return the attention output, `(B, Q, D)`."""
        users, length, both = key_value.shape
        size = both // 2 // self._heads
        query = query.reshape(users, -1, self._heads, size).transpose(0, 2, 1, 3)  # (B, H, Q, D/H)
        key, value = key_value.reshape(users, length, 2, self._heads, size).transpose(2, 0, 3, 1, 4)  # (B, H, L, D/H)
        weights = query @ key.swapaxes(2, 3) * size**-0.5 + bias  # (B, H, Q, L)
        weights -= weights.max(axis=3, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=3, keepdims=True)
        mixed: np.ndarray = (weights @ value).transpose(0, 2, 1, 3).reshape(users, -1, both // 2)
        return mixed


class _Linear:
    """A linear layer with weights `(out, in)`."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight.detach().cpu().float().T.contiguous()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        product: np.ndarray = torch.mm(torch.from_numpy(x), self._weight).numpy()
        return product


class _Gate:
    """A learned sigmoid gate."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        self._linear, self._bias = _Linear(linear.weight), _array(linear.bias)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return _sigmoid(self._linear(x) + self._bias)


def _by_bucket(table: torch.Tensor | None, width: int) -> np.ndarray:
    """Return the bias of each time bucket: zero in a model without times."""
    return np.zeros((TIME_BUCKETS, width), np.float32) if table is None else _array(table)


def _array(tensor: torch.Tensor) -> np.ndarray:
    copied: np.ndarray = tensor.detach().cpu().numpy().astype(np.float32)
    return copied


def _normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Divide by the root mean square, as `torch.nn.RMSNorm`."""
    mean_square = np.einsum("ed,ed->e", x, x) / x.shape[1]
    normed: np.ndarray = x * (1.0 / np.sqrt(mean_square + _EPSILON))[:, None].astype(np.float32) * weight
    return normed


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # for large negative values the exponential is infinite and the gate 0
        gate: np.ndarray = 1.0 / (1.0 + np.exp(-x))
    return gate


def _time_bucket(seconds: np.ndarray) -> np.ndarray:
    """Return the buckets that :func:`~streamrec.model.network.sequence_model.time_bucket` returns."""
    bucket: np.ndarray = np.minimum(np.log2(np.maximum(seconds, 0.0) + 1.0), TIME_BUCKETS - 1).astype(np.int64)
    return bucket
