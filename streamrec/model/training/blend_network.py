"""Training of the blend, the second-stage ranker, by gradient.

It is trained on the stream, on the candidates as served, before the sequence model is trained on the event (stacking,
Wolpert 1992, on a stream: each event is first a test of the serving version).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from streamrec.model.network.weights import load_weights, weights_of
from streamrec.model.ranking.blend import HIDDEN, Blend, features_in, rearranged
from streamrec.model.tables.vocabulary import pack_ids
from streamrec.model.tensors import Arrays

_OF_FEATURES = "linear.weight", "hidden.weight"
"""Parameters with a column per feature."""


class BlendNetwork(nn.Module):
    """A blend as a torch module: same weights, same scores.

    Parameters
    ----------
    blend
        Initial weights, except those of the hidden layer, which are random.
    """

    def __init__(self, blend: Blend) -> None:
        super().__init__()
        self.features = blend.features
        self.linear = nn.Linear(len(self.features), 1, bias=False)
        self.hidden = nn.Linear(len(self.features), HIDDEN)
        self.out = nn.Linear(HIDDEN, 1, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(blend.linear))
            self.out.weight.copy_(torch.from_numpy(blend.out))

    def forward(self, features: Tensor) -> Tensor:
        """Score candidates, `(..., F)` to `(...,)`."""
        hidden = nn.functional.silu(self.hidden(features))
        scores: Tensor = self.linear(features) + self.out(hidden)
        return scores.squeeze(-1)

    def weights(self) -> Arrays:
        """Return the weights by name, with the names of the features."""
        return {**weights_of(self), "features": pack_ids(list(self.features))}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`weights` returned, also with other features; see :meth:`Blend.taught`."""
        taught = Blend.of(self.weights()).taught(Blend.of(weights)).weights()
        load_weights(self, {name: value for name, value in taught.items() if name != "features"})

    def moments(self, weights: Mapping[str, np.ndarray], moments: Mapping[str, np.ndarray]) -> Arrays:
        """Return the moments of an optimizer of these weights for one of this network, zero for new features."""
        named = features_in(weights)
        of_features = {f"{index}." for index, (name, _) in enumerate(self.named_parameters()) if name in _OF_FEATURES}
        return {
            name: rearranged(value, named, self.features) if value.ndim and name[:2] in of_features else value
            for name, value in moments.items()
        }


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
