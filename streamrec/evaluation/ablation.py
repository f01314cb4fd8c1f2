"""Ablation: the same stream with a part of the model removed or changed.

A variant patches the code of its process, since there are no such settings; each runs in a separate process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from streamrec.evaluation.metrics import CUTOFF, ndcg
from streamrec.evaluation.prequential import Prequential
from streamrec.evaluation.significance import interval, resampled_means
from streamrec.model.network import micro_batch
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.forward import Encoder
from streamrec.model.network.learner import Learner, Training
from streamrec.model.network.sequence_model import SequenceModel
from streamrec.model.network.step import Negatives
from streamrec.model.ranking.blend import Blend
from streamrec.model.ranking.features import FEATURES
from streamrec.model.retrievers import category
from streamrec.model.retrievers.category import CategoryRetriever
from streamrec.model.retrievers.context import ContextRetriever
from streamrec.model.retrievers.neighbour import NeighbourRetriever
from streamrec.model.retrievers.sequence import SequenceRetriever
from streamrec.model.retrievers.session import SessionRetriever
from streamrec.model.retrievers.shelves import Shelves, shelves_of
from streamrec.model.retrievers.title import TitleRetriever
from streamrec.model.tables.content import MAX_PARTS
from streamrec.model.training import effort, online_model, stacking
from streamrec.model.training.blend_network import BlendNetwork

Change = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """The model with one part changed.

    Parameters
    ----------
    changes
        Patches of the code.
    shape
        Changed fields of `ModelConfig`.
    """

    changes: tuple[Change, ...] = ()
    shape: Mapping[str, Any] = field(default_factory=dict)


class Worth(Struct, kw_only=True):
    """Result of a variant."""

    variant: str
    ndcg_at_10: float
    hit_rate_at_10: float
    gain: float
    """Change of NDCG@10 relative to the unchanged model: negative if the part contributes."""
    gain_interval: tuple[float, float]
    """95 % interval by a bootstrap over users, paired by event."""
    rollbacks: int
    """How often the guard went back to the last good version."""
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of a variant by event.

    Parameters
    ----------
    ranks
        Rank of each event's item, `(events,)`.
    users
        Index of each event's user, `(events,)`.
    rollbacks
        How often the guard went back to the last good version.
    cpu_s
        CPU time of training and ranking.
    """

    ranks: np.ndarray
    users: np.ndarray
    rollbacks: int
    cpu_s: float

    @classmethod
    def of(cls, run: Prequential) -> Outcome:
        """Return the outcome of a run."""
        scores = run.scores
        return cls(
            scores.ranks[:, 0].copy(), np.asarray(scores.users), run.rollbacks, round(sum(run.cpu_s.values()), 1)
        )


def worth(variant: str, outcome: Outcome, as_it_is: Outcome, *, seed: int) -> Worth:
    """Compare a variant with the unchanged model on the same events."""
    gains = np.stack([ndcg(outcome.ranks), ndcg(as_it_is.ranks)], axis=1)
    resampled = resampled_means(gains, outcome.users, np.random.default_rng(seed))
    mean, mean_as_it_is = gains.mean(0)
    return Worth(
        variant=variant,
        ndcg_at_10=round(float(mean), 5),
        hit_rate_at_10=round(float((outcome.ranks < CUTOFF).mean()), 5),
        gain=round(float(mean / mean_as_it_is - 1), 5),
        gain_interval=interval(resampled[:, 0] / resampled[:, 1] - 1),
        rollbacks=outcome.rollbacks,
        cpu_s=outcome.cpu_s,
    )


def _let(owner: object, name: str, value: object) -> Change:
    return partial(setattr, owner, name, value)


def _without(*features: str) -> tuple[Change, Change]:
    """Train the blend without some features, which then have no weight."""

    def begin(self: BlendNetwork, blend: Blend) -> None:
        unused = np.isin(blend.features, features)
        whole(self, replace(blend, linear=np.where(unused, np.float32(0.0), blend.linear)))
        with torch.no_grad():
            self.hidden.weight[:, torch.from_numpy(unused)] = 0.0

    def forward(self: BlendNetwork, candidates: Tensor) -> Tensor:
        return score(self, candidates * torch.from_numpy(~np.isin(self.features, features)))

    whole, score = BlendNetwork.__init__, BlendNetwork.forward
    return _let(BlendNetwork, "__init__", begin), _let(BlendNetwork, "forward", forward)


def _linear(self: BlendNetwork, features: Tensor) -> Tensor:
    """Score by the linear weights only; the others are not trained, and those of the last layer are zero."""
    scores: Tensor = self.linear(features) + 0.0 * self.out(self.hidden(features))
    return scores.squeeze(-1)


def _uncorrected(self: Learner, rows_in_use: int) -> Negatives:
    """Sample negatives as usual, but treat all as equally likely."""
    rows = _draw(self, rows_in_use).rows
    return Negatives(rows, np.zeros(len(rows), np.float32))


def _undirected(self: Learner, row: int, buckets: np.ndarray, _direction: np.ndarray | None) -> None:
    """Initialize an embedding randomly."""
    _add_item(self, row, buckets, None)


def _unaveraged(config: ModelConfig, *, device: torch.device, seed: int, training: Training) -> Learner:
    return Learner(config, device=device, seed=seed, training=replace(training, average_decay=0.0))


def _no_content(_category: int, _title: str) -> np.ndarray:
    return np.zeros(MAX_PARTS, np.int64)


def _no_shelves(category: np.ndarray, counts: np.ndarray, first_ms: np.ndarray) -> Shelves:
    return shelves_of(np.zeros_like(category), counts, first_ms)


def _untimed(self: SequenceModel, items: Tensor, types: Tensor, times_s: Tensor, asked: Tensor | None = None) -> Tensor:
    return _forward(self, items, types, torch.zeros_like(times_s), asked)


def _serve_untimed(
    self: Encoder, items: np.ndarray, types: np.ndarray, times_s: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    return _serve(self, items, types, np.zeros_like(times_s), counts)


_forward, _serve = SequenceModel.forward, Encoder.__call__
_draw, _add_item = Learner.sample_negatives, Learner.add_item
_POPULARITY = tuple(feature for feature in FEATURES if feature.startswith("popularity"))
_REPEATS = "repeats", "times_seen", "repeat_recency", "repeat_age", "repeat_of_session"

UNCHANGED = "unchanged"
VARIANTS: dict[str, Variant] = {
    UNCHANGED: Variant(),
    "blend: no cosine of the network": Variant(_without("cosine", "cosine_below_best")),
    "blend: no cosines with the user's items": Variant(
        _without(*(feature for feature in SequenceRetriever.features if feature.startswith("cosine_to")))
    ),
    "blend: no neighbours": Variant(_without(*NeighbourRetriever.features)),
    "blend: no session neighbours": Variant(_without(*SessionRetriever.features)),
    "blend: no words of titles": Variant(_without(*TitleRetriever.features)),
    "blend: no context": Variant(_without(*ContextRetriever.features)),
    "blend: no popularity": Variant(_without(*_POPULARITY)),
    "blend: no repeats": Variant(_without(*_REPEATS)),
    "blend: no categories": Variant(_without(*CategoryRetriever.features)),
    "retrievers: nothing of the user's categories": Variant((_let(category, "shelves_of", _no_shelves),)),
    "blend: linear": Variant((_let(BlendNetwork, "forward", _linear),)),
    "blend: a step per 64 tested events, not 8": Variant((_let(online_model, "TESTED_TOGETHER", 64),)),
    "blend: latest weights, no averaging": Variant((_let(stacking, "AVERAGE_DECAY", 0.0),)),
    "blend: no step on earlier events": Variant((_let(stacking, "REPLAYED_GROUPS", 0),)),
    "network: two blocks": Variant(shape={"blocks": 2}),
    "network: no times": Variant((_let(SequenceModel, "forward", _untimed), _let(Encoder, "__call__", _serve_untimed))),
    "items: no content": Variant((_let(online_model, "content_buckets", _no_content),)),
    "items: random start": Variant((_let(Learner, "add_item", _undirected),)),
    "training: no replay": Variant((_let(online_model, "REPLAY_SHARE", 0.0),)),
    "training: one pass, not two": Variant((_let(effort, "VISITS", (0.25, 1.0)),)),
    "training: four passes": Variant(
        (_let(effort, "VISITS", (0.25, 4.0)), _let(effort, "STEP_VISITS", 2 * effort.STEP_VISITS))
    ),
    "training: earlier events are not targets": Variant((_let(micro_batch, "OLD_LOSS_WEIGHT", 0.0),)),
    "training: purchases weigh as clicks": Variant((_let(micro_batch, "PURCHASE_LOSS_WEIGHT", 1.0),)),
    "training: no log-q correction": Variant((_let(Learner, "sample_negatives", _uncorrected),)),
    "training: latest weights, no averaging": Variant((_let(online_model, "Learner", _unaveraged),)),
}
"""Variants by name."""
