"""The second-stage ranker (blend): a small network over the features of a candidate.

It is trained on the stream, on the candidates as served, before the sequence model is trained on the event (stacking,
Wolpert 1992, on a stream: each event is first a test of the serving version). So it learns how far to trust the model,
which half-life of popularity matters, and whether users repeat items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from streamrec.model.tensors import load_weights

FEATURES = (
    "cosine",
    "cosine_below_best",
    "popularity_10m",
    "popularity_1h",
    "popularity_6h",
    "popularity_1d",
    "popularity_7d",
    "popularity_30d",
    "age",
    "silence",
    "events",
    "neighbour",
    "neighbour_of_last",
    "is_neighbour",
    "repeats",
    "times_seen",
    "repeat_recency",
    "same_category",
    "category_share",
    "sequence_length",
    "last_gap",
    "knows_user",
    "repeat_age",
    "repeat_of_session",
    "user_silence",
    "session_length",
    "category_interest",
    "popularity_in_category_1d",
    "popularity_in_category_7d",
)
"""Features of a candidate, scaled to about 1. New ones are appended: see :meth:`Blend.load`."""

HIDDEN = 32

_PRIOR = {
    "cosine_below_best": 0.5,
    "popularity_1h": 0.3,
    "popularity_6h": 0.3,
    "popularity_1d": 0.5,
    "neighbour": 1.0,
    "is_neighbour": 0.5,
    "category_interest": 1.0,
}
"""Initial weights: recently popular items, neighbours and items of the user's categories first."""


class Blend(nn.Module):
    """A linear score plus a correction by a hidden layer.

    Parameters
    ----------
    features
        Names of the features, in order.
    prior
        Initial linear weights by name.
    """

    def __init__(self, features: Sequence[str] = FEATURES, prior: Mapping[str, float] = _PRIOR) -> None:
        super().__init__()
        self.linear = nn.Linear(len(features), 1, bias=False)
        self.hidden = nn.Linear(len(features), HIDDEN)
        self.out = nn.Linear(HIDDEN, 1, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[prior.get(name, 0.0) for name in features]]))
            self.out.weight.zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Score candidates, `(..., F)` to `(...,)`."""
        hidden = nn.functional.silu(self.hidden(features))
        scores: Tensor = self.linear(features) + self.out(hidden)
        return scores.squeeze(-1)

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Become what these weights are of.

        An earlier release knew fewer features. Weights of the others begin as in a new blend, and those of the hidden
        layer at zero: what was learned ranks by them as by the prior until it has learned more.
        """
        known = weights["linear.weight"].shape[1]
        linear = self.linear.weight.detach().numpy().copy()
        hidden = np.zeros_like(self.hidden.weight.detach().numpy())
        linear[:, :known], hidden[:, :known] = weights["linear.weight"], weights["hidden.weight"]
        load_weights(self, {**weights, "linear.weight": linear, "hidden.weight": hidden})


def listwise_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of the event's item among the candidates of its user.

    Parameters
    ----------
    scores
        Scores, -inf for padding, `(B, C)`.
    target
        Index of the event's item, `(B,)`.

    Returns
    -------
    Tensor
        `(B,)`
    """
    return nn.functional.cross_entropy(scores, target, reduction="none")
