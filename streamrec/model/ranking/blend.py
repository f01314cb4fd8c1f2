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

from streamrec.model.ranking.features import FEATURES, PRIOR
from streamrec.model.retrievers.retriever import Retriever
from streamrec.model.tables.vocabulary import pack_ids, unpack_ids
from streamrec.model.tensors import Arrays, load_weights, weights_of

HIDDEN = 32

_OF_FEATURES = "linear.weight", "hidden.weight"
"""Parameters with a column per feature."""

_UNNAMED = (
    *("cosine", "cosine_below_best"),
    *("popularity_10m", "popularity_1h", "popularity_6h", "popularity_1d", "popularity_7d", "popularity_30d"),
    *("age", "silence", "events", "neighbour", "neighbour_of_last", "is_neighbour"),
    *("repeats", "times_seen", "repeat_recency", "same_category", "category_share", "sequence_length", "last_gap"),
    *("knows_user", "repeat_age", "repeat_of_session", "user_silence", "session_length"),
    *("category_interest", "popularity_in_category_1d", "popularity_in_category_7d"),
)
"""Order of the features in weights of releases that did not name them; the oldest knew only the first ones."""


class Blend(nn.Module):
    """A linear score plus a correction by a hidden layer.

    Parameters
    ----------
    features
        Names of the features, in order.
    prior
        Initial linear weights by name.
    """

    def __init__(self, features: Sequence[str], prior: Mapping[str, float]) -> None:
        super().__init__()
        self.features = tuple(features)
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

    def weights(self) -> Arrays:
        """Return the weights by name, with the names of the features."""
        return {**weights_of(self), "features": pack_ids(list(self.features))}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`weights` returned, also with other features.

        Weights of features that are new here begin as in a new blend, and those of the hidden layer at zero: what was
        learned ranks by them as by the prior until it has learned more.
        """
        named = features_in(weights)
        linear = self.linear.weight.detach().numpy().copy()
        is_known = np.isin(self.features, named)
        linear[:, is_known] = rearranged(weights["linear.weight"], named, self.features)[:, is_known]
        hidden = rearranged(weights["hidden.weight"], named, self.features)
        others = {name: value for name, value in weights.items() if name != "features"}
        load_weights(self, {**others, "linear.weight": linear, "hidden.weight": hidden})

    def moments(self, weights: Mapping[str, np.ndarray], moments: Mapping[str, np.ndarray]) -> Arrays:
        """Return the moments of an optimizer of these weights for one of this blend, zero for new features."""
        named = features_in(weights)
        of_features = {f"{index}." for index, (name, _) in enumerate(self.named_parameters()) if name in _OF_FEATURES}
        return {
            name: rearranged(value, named, self.features) if value.ndim and name[:2] in of_features else value
            for name, value in moments.items()
        }


def rearranged(values: np.ndarray, named: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Return values `(..., len(named))` in the order of other names, zero for names without any.

    Examples
    --------
    >>> rearranged(np.array([1.0, 2.0]), ["a", "b"], ["b", "c"])
    array([2., 0.])
    """
    column_of = {name: column for column, name in enumerate(named)}
    arranged = np.zeros((*values.shape[:-1], len(wanted)), values.dtype)
    for column, name in enumerate(wanted):
        if name in column_of:
            arranged[..., column] = values[..., column_of[name]]
    return arranged


def blend_for(retrievers: Sequence[Retriever]) -> Blend:
    """Return a new blend of the features that every candidate has and those of these channels."""
    features = [*FEATURES, *(name for retriever in retrievers for name in retriever.features)]
    prior = dict(PRIOR)
    for retriever in retrievers:
        prior |= retriever.prior
    return Blend(features, prior)


def features_in(weights: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of the features that weights are for, in order."""
    named = unpack_ids(weights["features"]) if "features" in weights else list(_UNNAMED)
    return named[: weights["linear.weight"].shape[1]]


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
