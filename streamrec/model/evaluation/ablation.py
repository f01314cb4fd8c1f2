"""What each part of the model is worth: the same stream again, with the part taken out or made otherwise.

A variant changes the code of the process that it runs in, as no setting does; each runs in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from streamrec.model import learning, micro_batch
from streamrec.model.blend import FEATURES, Blend
from streamrec.model.content import MAX_PARTS
from streamrec.model.evaluation.metrics import CUTOFF, ndcg
from streamrec.model.evaluation.prequential import Prequential
from streamrec.model.evaluation.significance import interval, resampled_means
from streamrec.model.forward import Encoder
from streamrec.model.learner import Learner, Training
from streamrec.model.sequence_model import SequenceModel
from streamrec.model.step import Negatives

Change = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """The model with one part changed.

    Parameters
    ----------
    changes
        What changes the code.
    shape
        What changes the shape of the network, by its names in `ModelConfig`.
    """

    changes: tuple[Change, ...] = ()
    shape: Mapping[str, Any] = field(default_factory=dict)


class Worth(Struct, kw_only=True):
    """How a variant fared."""

    variant: str
    ndcg_at_10: float
    hit_rate_at_10: float
    gain: float
    """Of NDCG@10 relative to the model as it is: below zero where the part is worth something."""
    gain_interval: tuple[float, float]
    """95 %, by a bootstrap over users, both on the same events."""
    rollbacks: int
    """How often the guard went back to the last good version."""
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a variant's lists came to, event by event.

    Parameters
    ----------
    ranks
        Of the event's item, `(events,)`.
    users
        Number of the event's user, `(events,)`.
    rollbacks
        How often the guard went back to the last good version.
    cpu_s
        Processor time of training and ranking.
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
    """Return how a variant fared beside the model as it is, on the same events."""
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


def _without(*features: str) -> Change:
    """Hide features from the blend, when it learns and when it ranks."""
    kept = torch.tensor([float(feature not in features) for feature in FEATURES])

    def forward(self: Blend, features: Tensor) -> Tensor:
        return whole(self, features * kept)

    whole = Blend.forward
    return _let(Blend, "forward", forward)


def _linear(self: Blend, features: Tensor) -> Tensor:
    """Score by the linear weights alone; the others stay what they are."""
    scores: Tensor = self.linear(features) + 0.0 * self.out(self.hidden(features))
    return scores.squeeze(-1)


def _uncorrected(self: Learner, rows_in_use: int) -> Negatives:
    """Draw negatives as they are drawn, and take each for as likely as any other."""
    rows = _draw(self, rows_in_use).rows
    return Negatives(rows, np.zeros(len(rows), np.float32))


def _undirected(self: Learner, row: int, buckets: np.ndarray, _direction: np.ndarray | None) -> None:
    """Begin with a row at random."""
    _add_item(self, row, buckets, None)


def _no_content(_category: int, _title: str) -> np.ndarray:
    return np.zeros(MAX_PARTS, np.int64)


def _untimed(self: SequenceModel, items: Tensor, types: Tensor, times_s: Tensor, asked: Tensor | None = None) -> Tensor:
    return _forward(self, items, types, torch.zeros_like(times_s), asked)


def _serve_untimed(
    self: Encoder, items: np.ndarray, types: np.ndarray, times_s: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    return _serve(self, items, types, np.zeros_like(times_s), counts)


_forward, _serve = SequenceModel.forward, Encoder.__call__
_draw, _add_item = Learner.sample_negatives, Learner.add_item
_POPULARITY = tuple(feature for feature in FEATURES if feature.startswith("popularity"))
_NEIGHBOURS = "neighbour", "neighbour_of_last", "is_neighbour"
_REPEATS = "repeats", "times_seen", "repeat_recency", "repeat_age", "repeat_of_session"
_CATEGORIES = "same_category", "category_share"

AS_IT_IS = "as it is"
VARIANTS: dict[str, Variant] = {
    AS_IT_IS: Variant(),
    "blend: no cosine of the network": Variant((_without("cosine", "cosine_below_best"),)),
    "blend: no neighbours": Variant((_without(*_NEIGHBOURS),)),
    "blend: no popularity": Variant((_without(*_POPULARITY),)),
    "blend: no repeats": Variant((_without(*_REPEATS),)),
    "blend: no categories": Variant((_without(*_CATEGORIES),)),
    "blend: linear": Variant((_let(Blend, "forward", _linear),)),
    "blend: a step for 64 tested events, not 8": Variant((_let(learning, "TESTED_TOGETHER", 64),)),
    "network: two blocks": Variant(shape={"blocks": 2}),
    "network: no times": Variant((_let(SequenceModel, "forward", _untimed), _let(Encoder, "__call__", _serve_untimed))),
    "items: no content": Variant((_let(learning, "content_buckets", _no_content),)),
    "items: a new one begins at random": Variant((_let(Learner, "add_item", _undirected),)),
    "training: no replay": Variant((_let(learning, "REPLAY_SHARE", 0.0),)),
    "training: one visit, not two": Variant((_let(learning, "VISITS", (0.25, 1.0)),)),
    "training: four visits": Variant(
        (_let(learning, "VISITS", (0.25, 4.0)), _let(learning, "STEP_VISITS", 2 * learning.STEP_VISITS))
    ),
    "training: earlier events are no targets": Variant((_let(micro_batch, "OLD_LOSS_WEIGHT", 0.0),)),
    "training: a purchase weighs as a click": Variant((_let(micro_batch, "PURCHASE_LOSS_WEIGHT", 1.0),)),
    "training: no log-q correction": Variant((_let(Learner, "sample_negatives", _uncorrected),)),
    "training: the last weights serve, no average": Variant(
        (_let(learning, "Learner", partial(Learner, training=Training(average_decay=0.0))),)
    ),
}
"""By what is different."""
