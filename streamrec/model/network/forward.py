"""Serving implementation of the sequence model on plain arrays, for the latest event of each user.

The same arithmetic as :class:`~streamrec.model.network.sequence_model.SequenceModel`, without gradients and without
torch, whose import takes seconds of a worker's start, and whose calls cost a millisecond for a few users. Here the
events of all users are concatenated, and only attention pads them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamrec.model.network.config import ALL_EVENT_TYPES, EVENT_TYPES, TIME_BUCKETS, ModelConfig
from streamrec.model.tensors import below

_EPSILON = float(np.finfo(np.float32).eps)


class Encoder:
    """A network with given weights.

    Shapes: B users, E events of all of them, L events of the longest sequence, D width, H heads.

    Parameters
    ----------
    config
        Shape of the network.
    weights
        Weights of a sequence model by name.

    Raises
    ------
    ValueError
        If they are not the weights of a network of this shape.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
        self.config = config
        dim, heads, left = config.dim, config.heads, _Weights(weights)
        left.take("log_temperature")  # needed for training only
        self._item_scale = float(left.take("item_scale"))
        first, others = left.take("event_type", EVENT_TYPES, dim), (ALL_EVENT_TYPES - EVENT_TYPES, dim)
        # missing in weights of earlier releases
        name = "other_event_type.weight"
        other = left.take(name, *others) if name in left else np.zeros(others, np.float32)
        self._event_type, self._gap = np.concatenate([first, other]), left.take("gap", TIME_BUCKETS, dim)
        self._by_steps = left.take("time_bias.by_steps", config.max_length, heads)
        self._by_time = left.take("time_bias.by_time", TIME_BUCKETS, heads)
        self._blocks = [_Block(config, left.below(f"blocks.{index}")) for index in range(config.blocks)]
        self._out_norm, self._out = left.take("out_norm.weight", dim), left.linear("out", dim, dim)
        left.require_empty()

    def __call__(
        self, items: np.ndarray, event_types: np.ndarray, times_s: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Return the predicted unit vector of each user's next item, `(B, D)`.

        Parameters
        ----------
        items
            Unit item vectors, concatenated by user, oldest first, `(E, D)`.
        event_types
            Signed kinds, `(E,)`.
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

    def __init__(self, config: ModelConfig, weights: _Weights) -> None:
        dim, inner = config.dim, config.feedforward * config.dim
        self._heads = config.heads
        self._attention_norm = weights.take("attention_norm.weight", dim)
        query_key_value = weights.take("query_key_value.weight", 3 * dim, dim)
        self._query, self._key_value = _Linear(query_key_value[:dim]), _Linear(query_key_value[dim:])
        self._attention_out = weights.linear("attention_out", dim, dim)
        self._attention_gate = weights.gate("attention_gate", dim)
        self._feedforward_norm = weights.take("feedforward_norm.weight", dim)
        self._feedforward_in = weights.linear("feedforward_in", 2 * inner, dim)
        self._feedforward_out = weights.linear("feedforward_out", dim, inner)
        self._feedforward_gate = weights.gate("feedforward_gate", dim)
        weights.require_empty()

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

    def __init__(self, weight: np.ndarray) -> None:
        self._weight = np.ascontiguousarray(weight.T)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        product: np.ndarray = x @ self._weight
        return product


class _Gate:
    """A learned sigmoid gate."""

    def __init__(self, linear: _Linear, bias: np.ndarray) -> None:
        self._linear, self._bias = linear, bias

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return _sigmoid(self._linear(x) + self._bias)


class _Weights:
    """Weights by name, which are taken one by one."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._left = dict(arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int) -> np.ndarray:
        """Return and remove the weight of a name, float32, which must have this shape."""
        weight = self._left.pop(name, None)
        if weight is None or weight.shape != shape:
            raise ValueError(f"the network's {name} must have the shape {shape}")
        return weight.astype(np.float32)

    def below(self, name: str) -> _Weights:
        """Return and remove the weights of a part of the network."""
        part = below(name, self._left)
        for each in part:
            del self._left[f"{name}.{each}"]
        return _Weights(part)

    def linear(self, name: str, out: int, into: int) -> _Linear:
        """Return and remove a linear layer."""
        return _Linear(self.take(f"{name}.weight", out, into))

    def gate(self, name: str, dim: int) -> _Gate:
        """Return and remove a gate."""
        return _Gate(self.linear(name, dim, dim), self.take(f"{name}.bias", dim))

    def require_empty(self) -> None:
        """Raise an error if weights are left."""
        if self._left:
            raise ValueError(f"unknown weights of the network: {', '.join(sorted(self._left))}")


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
