"""The second-stage ranker (blend): a small network over the features of a candidate.

It learns how far to trust the sequence model, which half-life of popularity matters, and whether users repeat items. It
is trained by :class:`~streamrec.model.training.blend_network.BlendNetwork`; here it scores, on plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from streamrec.model.ranking.features import FEATURES, PRIOR
from streamrec.model.retrievers.retriever import Retriever
from streamrec.model.tables.vocabulary import pack_ids, unpack_ids
from streamrec.model.tensors import Arrays

HIDDEN = 32

_UNNAMED = (
    *("cosine", "cosine_below_best"),
    *("popularity_10m", "popularity_1h", "popularity_6h", "popularity_1d", "popularity_7d", "popularity_30d"),
    *("age", "silence", "events", "neighbour", "neighbour_of_last", "is_neighbour"),
    *("repeats", "times_seen", "repeat_recency", "same_category", "category_share", "sequence_length", "last_gap"),
    *("knows_user", "repeat_age", "repeat_of_session", "user_silence", "session_length"),
    *("category_interest", "popularity_in_category_1d", "popularity_in_category_7d"),
)
"""Order of the features in weights of releases that did not name them; the oldest knew only the first ones."""


@dataclass(frozen=True)
class Blend:
    """A linear score plus a correction by a hidden layer. Shapes: M candidates, F features, H hidden units.

    Attributes
    ----------
    features
        Names of the features, in order.
    linear, hidden, bias, out
        Weights, `(F,)`, `(H, F)`, `(H,)` and `(H,)`, float32.
    """

    features: tuple[str, ...]
    linear: np.ndarray
    hidden: np.ndarray
    bias: np.ndarray
    out: np.ndarray

    @classmethod
    def new(cls, features: Sequence[str], prior: Mapping[str, float]) -> Self:
        """Return a blend with these linear weights, by name, and no correction."""
        linear = np.array([prior.get(name, 0.0) for name in features], np.float32)
        hidden = np.zeros((HIDDEN, len(features)), np.float32)
        return cls(tuple(features), linear, hidden, np.zeros(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32))

    @classmethod
    def of(cls, weights: Mapping[str, np.ndarray]) -> Self:
        """Restore what :meth:`weights` returned.

        Raises
        ------
        ValueError
            If these are not the weights of a blend.
        """
        features = tuple(features_in(weights))
        shapes = {
            "linear.weight": (1, len(features)),
            "hidden.weight": (HIDDEN, len(features)),
            "hidden.bias": (HIDDEN,),
            "out.weight": (1, HIDDEN),
        }
        if wrong := [name for name, shape in shapes.items() if name not in weights or weights[name].shape != shape]:
            raise ValueError(f"the blend's {wrong[0]} must have the shape {shapes[wrong[0]]}")
        linear, hidden, bias, out = (weights[name].astype(np.float32) for name in shapes)
        return cls(features, linear[0], hidden, bias, out[0])

    def weights(self) -> Arrays:
        """Return the weights by name, with the names of the features."""
        return {
            "linear.weight": self.linear[None],
            "hidden.weight": self.hidden,
            "hidden.bias": self.bias,
            "out.weight": self.out[None],
            "features": pack_ids(list(self.features)),
        }

    def scores(self, candidates: np.ndarray) -> np.ndarray:
        """Score candidates by their features, `(M, F)` to `(M,)`."""
        hidden = candidates @ self.hidden.T
        hidden += self.bias
        with np.errstate(over="ignore"):  # for large negative values the exponential is infinite and the unit 0
            hidden /= 1.0 + np.exp(-hidden)
        scores: np.ndarray = candidates @ self.linear
        scores += hidden @ self.out
        return scores

    def taught(self, other: Blend) -> Self:
        """Return this blend with what another one has learned, also with other features.

        Features that only this blend has keep their linear weights, and have none in the hidden layer: what was learned
        ranks by them as by the prior until it has learned more.
        """
        is_known = np.isin(self.features, other.features)
        return replace(
            self,
            linear=np.where(is_known, rearranged(other.linear, other.features, self.features), self.linear),
            hidden=rearranged(other.hidden, other.features, self.features),
            bias=other.bias,
            out=other.out,
        )


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
    return Blend.new(features, prior)


def features_in(weights: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of the features that weights are for, in order."""
    named = unpack_ids(weights["features"]) if "features" in weights else list(_UNNAMED)
    return named[: weights["linear.weight"].shape[1]]
