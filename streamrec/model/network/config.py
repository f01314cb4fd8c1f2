"""Shape of the network."""

from __future__ import annotations

from dataclasses import dataclass

TIME_BUCKETS = 26
"""log2 of seconds: the last bucket starts at a year."""

EVENT_TYPES, ALL_EVENT_TYPES = 2, 24
"""Number of rows for clicks and purchases, and for all signed kinds of events: negative ones count from the end."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network.

    Parameters
    ----------
    dim
        Width, also of item vectors.
    max_length
        Longest sequence.
    blocks, heads
        Depth, and attention heads.
    feedforward
        Inner width of the SwiGLU in multiples of `dim`.
    dropout
        Dropout on inputs and inside blocks, in training.
    """

    dim: int = 64
    max_length: int = 50
    blocks: int = 1
    heads: int = 2
    feedforward: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if min(self.dim, self.max_length, self.blocks, self.heads, self.feedforward) < 1 or self.dim % self.heads:
            raise ValueError(f"invalid network shape, dim must be a multiple of heads: {self}")
