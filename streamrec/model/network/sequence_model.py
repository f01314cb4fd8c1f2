"""The sequence model: a causal Transformer over a user's events that predicts the vector of the next item.

LiGR blocks (Borisyuk et al. 2025, "From Features to Transformers", arXiv 2502.03417): pre-norm attention and SwiGLU,
each added through a learned sigmoid gate. Attention includes time by a bias per head, by distance in steps and in
log-time between the two events (HSTU, Zhai et al. 2024, arXiv 2402.17152). The output is compared with item vectors by
cosine similarity with a temperature.

Shapes: B sequences, L events, D width, H heads, K shared negatives, T targets. Sequences are oldest first and padded at
the end, so that the causal mask suffices to exclude padding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamrec.model.network.config import ALL_EVENT_TYPES, EVENT_TYPES, TIME_BUCKETS, ModelConfig

_NEVER = -80.0
"""A score with zero weight in a softmax; not -inf, so that a target without negatives has a gradient."""


class TimeBias(nn.Module):
    """Attention bias by the distance of two events in steps and time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.by_steps = nn.Parameter(torch.zeros(config.max_length, config.heads))
        self.by_time = nn.Parameter(torch.zeros(TIME_BUCKETS, config.heads))

    def forward(self, times_s: Tensor, asked: Tensor | None) -> Tensor:
        """Return the bias, -inf for later events, `(B, L)` to `(B or 1, H, Q, L)`.

        Q is L, or 1 if only the events at `asked`, `(B,)`, attend to the others.
        """
        length = times_s.shape[1]
        seen = torch.arange(length, device=times_s.device)
        looking, looking_s = (seen[None], times_s) if asked is None else (asked[:, None], _at(times_s, asked))
        steps = looking[:, :, None] - seen  # (1 or B, Q, L)
        # embedding, not indexing: its gradient is accumulated ten times faster
        bias = functional.embedding(steps.clamp(min=0), self.by_steps)  # (1 or B, Q, L, H)
        bucket = time_bucket(looking_s[:, :, None] - times_s[:, None, :])  # (B, Q, L)
        bias = functional.embedding(bucket, self.by_time) + bias  # (B, Q, L, H)
        return bias.masked_fill((steps < 0)[..., None], -torch.inf).permute(0, 3, 1, 2)  # (B, H, Q, L)


class LigrBlock(nn.Module):
    """Attention and SwiGLU, each behind a pre-norm and a learned gate."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, inner = config.dim, config.feedforward * config.dim
        self.heads, self.dropout = config.heads, config.dropout
        self.attention_norm = nn.RMSNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.attention_gate = nn.Linear(dim, dim)
        self.feedforward_norm = nn.RMSNorm(dim)
        self.feedforward_in = nn.Linear(dim, 2 * inner, bias=False)
        self.feedforward_out = nn.Linear(inner, dim, bias=False)
        self.feedforward_gate = nn.Linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor, asked: Tensor | None) -> Tensor:
        """Apply the block to events `x`, `(B, L, D)`; return those at `asked`, or all, `(B, Q, D)`."""
        batch, length, dim = x.shape
        normed = self.attention_norm(x)
        qkv = self.query_key_value(normed).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, H, L, D/H) each
        if asked is not None:
            x, normed, query = _at(x, asked), _at(normed, asked), _at(query.transpose(1, 2), asked).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)  # (B, H, Q, D/H)
        mixed = self.attention_out(mixed.transpose(1, 2).flatten(2))
        x = x + torch.sigmoid(self.attention_gate(normed)) * self._drop(mixed)
        normed = self.feedforward_norm(x)
        gate, inner = self.feedforward_in(normed).chunk(2, dim=-1)
        inner = self.feedforward_out(functional.silu(gate) * inner)
        return x + torch.sigmoid(self.feedforward_gate(normed)) * self._drop(inner)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, active=self.training)


class SequenceModel(nn.Module):
    """Maps a sequence of item vectors with event types and times to the predicted unit vector of the next item.

    Item vectors are stored in an external growing table: the model only receives those of a batch.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.item_scale = nn.Parameter(torch.tensor(math.sqrt(config.dim)))
        self.event_type = nn.Parameter(0.1 * torch.randn(EVENT_TYPES, config.dim))
        self.gap = nn.Parameter(0.1 * torch.randn(TIME_BUCKETS, config.dim))
        self.time_bias = TimeBias(config)
        self.blocks = nn.ModuleList(LigrBlock(config) for _ in range(config.blocks))
        self.out_norm = nn.RMSNorm(config.dim)
        self.out = nn.Linear(config.dim, config.dim, bias=False)
        nn.init.eye_(self.out.weight)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.1)))
        # apart from the first two and last, since weights and optimizers of earlier releases do not have them
        self.other_event_type = nn.Embedding(ALL_EVENT_TYPES - EVENT_TYPES, config.dim)
        nn.init.zeros_(self.other_event_type.weight)

    def forward(self, items: Tensor, event_types: Tensor, times_s: Tensor, asked: Tensor | None = None) -> Tensor:
        """Predict the item after each event, or after one event per sequence.

        Parameters
        ----------
        items
            Unit item vectors, zero for padding, `(B, L, D)`.
        event_types
            Signed kinds, `(B, L)`, int64.
        times_s
            Event times in seconds from any origin, float32, `(B, L)`.
        asked
            One event per sequence, `(B,)`, int64; the last block is then computed only for it.

        Returns
        -------
        Tensor
            Unit vectors, `(B, L, D)`, or `(B, D)`.
        """
        by_type = torch.cat([self.event_type, self.other_event_type.weight])
        x = self.item_scale * items + functional.embedding(event_types % ALL_EVENT_TYPES, by_type)
        gaps = functional.pad(times_s[:, 1:] - times_s[:, :-1], (1, 0))
        x = x + functional.embedding(time_bucket(gaps), self.gap)
        x = dropout(x, self.config.dropout, active=self.training)
        *first, last = self.blocks
        for block in first:
            x = block(x, self.time_bias(times_s, None), None)
        x = last(x, self.time_bias(times_s, asked), asked)
        if asked is not None:
            x = x.squeeze(1)
        return functional.normalize(self.out(self.out_norm(x)), dim=-1)


def dropout(x: Tensor, share: float, *, active: bool) -> Tensor:
    """Dropout by uniform numbers: PyTorch's dropout samples one by one on a CPU and takes seven times as long."""
    if not active or not share:
        return x
    return x * (torch.rand_like(x) >= share).to(x.dtype).mul_(1 / (1 - share))


def _at(x: Tensor, places: Tensor) -> Tensor:
    """Select one position per sequence, `(B, L, ...)` to `(B, 1, ...)`."""
    return x[torch.arange(len(x), device=x.device), places].unsqueeze(1)


def time_bucket(seconds: Tensor) -> Tensor:
    """Return the log2 bucket of a time span; the first for less than a second and for padding."""
    return torch.log2(seconds.clamp(min=0.0) + 1.0).long().clamp(max=TIME_BUCKETS - 1)


def sampled_softmax_loss(
    hidden: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_expected_count: Tensor,
    is_positive: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Return the cross-entropy of each target against shared negatives.

    The importance weight `1 / (K q)` is only applied to negatives: the positive is present with certainty, and
    weighting it like a sample biases the gradient (Khrylchenko et al. 2025, "Correcting the LogQ Correction", arXiv
    2507.09331). A negative that equals the target is excluded.

    Parameters
    ----------
    hidden
        Predicted unit vectors, `(T, D)`.
    positives
        Unit vectors of the targets, `(T, D)`.
    negatives
        Unit vectors of the shared sample, `(K, D)`.
    log_expected_count
        Log of the expected count of each negative in the sample, `log(K q)`, `(K,)`.
    is_positive
        Mask of negatives that equal the target, `(T, K)`.
    temperature
        Scalar.

    Returns
    -------
    Tensor
        `(T,)`
    """
    # as few passes over the large (T, K) as possible; cosines are bounded, so subtracting the maximum is unnecessary
    scaled = hidden / temperature
    negative = torch.addmm(-log_expected_count, scaled, negatives.T).masked_fill(is_positive, _NEVER)  # (T, K)
    return functional.softplus(negative.exp().sum(1).log() - (scaled * positives).sum(-1))
