"""Builds lists from scored candidates: the best per user, their probabilities and reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from streamrec.contracts.derived import Channel, ListItem, Reason
from streamrec.domain.interest import SequenceEvent
from streamrec.model.ranking.candidates import Candidates, find
from streamrec.model.ranking.context import Context, make_context
from streamrec.model.ranking.kernels import NEIGHBOURS_OF, nearest_own, newest_own
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.nearest import nearest, rough_table
from streamrec.model.retrievers.products import KERNELS
from streamrec.model.tables.popularity import HALF_LIVES_MS

NEVER = -1.0
"""Count of an excluded item."""

_CHANNELS: tuple[Channel, ...] = ("neighbour", "category", "popular", "model", "recent")
_NEIGHBOUR, _CATEGORY, _POPULAR, _MODEL, _RECENT = range(len(_CHANNELS))

_FAR = -1.0
"""An item whose cosine feature is further below the best one is not in the list for what the model says of it."""

_WITHIN_BITS, _USER_SHIFT = 20, 52
"""Sort key: user, score, index among the user's candidates. Limits: 2^11 users and 2^20 candidates."""


class Prior:
    """Log-probabilities of items for an unknown user, from the current default list.

    Parameters
    ----------
    scores
        Scores by item id.
    least
        Score of items not in the list.
    """

    def __init__(self, scores: Mapping[str, float], least: float) -> None:
        self._scores, self._least = scores, least
        self._by_row: tuple[ServingModel | None, np.ndarray] = (None, np.zeros(0))

    def by_row(self, model: ServingModel) -> np.ndarray:
        """Return the scores by row of a model, `(size,)`."""
        of_model, by_row = self._by_row
        if of_model is not model:
            by_row = np.full(model.size, self._least)
            rows = [model.row(item_id) for item_id in self._scores]
            by_row[rows] = list(self._scores.values())
            self._by_row = (model, by_row)
        return by_row


def best_lists(  # inputs of a list
    model: ServingModel,
    contexts: Sequence[Context],
    found: Candidates,
    scores: np.ndarray,
    k: int,
    prior: Prior | None,
) -> list[list[ListItem]]:
    """Return the `k` best candidates of each user, best first; none for a user whose scores are NaN.

    Parameters
    ----------
    scores
        Score of each candidate, `(M,)`, float32.
    prior
        Prior scores of the items, if available yet.
    """
    likely = _log_softmax(scores, found)
    order, ends = _best(likely, found, k)
    rows = found.rows[order]
    rounded = np.round(likely[order].astype(np.float64), 4).tolist()
    priors = [None] * len(rows) if prior is None else prior.by_row(model)[rows].tolist()
    item_ids = map(model.ids.__getitem__, rows.tolist())
    items = list(map(ListItem, item_ids, rounded, _reasons(model, contexts, found, order), priors))
    return [items[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def warm_up() -> None:
    """Compile the loops, or load them from the cache, in advance."""
    vectors = np.eye(4, dtype=np.float32)
    for kernel in KERNELS:
        nearest(vectors, rough_table(vectors, len(vectors)), vectors, 1, kernel=kernel)
    ids = ["", "a", "b", "c"]
    model = ServingModel(
        ids=ids,
        rows={item_id: row for row, item_id in enumerate(ids) if item_id},
        size=len(ids),
        vectors=vectors,
        rough=rough_table(vectors, len(ids)),
        counts=np.ones((4, len(HALF_LIVES_MS)), np.float32),
        first_ms=np.ones(4, np.int64),
        last_ms=np.ones(4, np.int64),
        events=np.ones(4, np.int64),
        category=np.ones(4, np.int64),
        neighbours=np.ones((4, 1), np.int32),
        shares=np.ones((4, 1), np.float32),
    )
    context = make_context(model, [SequenceEvent(1, 0, 0, 0, "a", "")])
    found = find(model, [context], vectors[1:2], hide_seen=False)
    best_lists(model, [context], found, np.zeros(len(found.rows), np.float32), 1, None)


def most_popular(model: ServingModel, counts: np.ndarray, k: int) -> list[ListItem]:
    """Return the items with the highest counts, best first, excluding negative ones; `counts` by row."""
    n = min(k, len(counts))
    top = np.argpartition(-counts, n - 1)[:n]
    top = top[np.argsort(-counts[top], kind="stable")]
    return [
        ListItem(model.ids[row], round(math.log1p(float(counts[row])), 4), Reason("popular"))
        for row in top.tolist()
        if counts[row] >= 0 and model.ids[row]
    ]


def filled(items: Sequence[ListItem], popular: Sequence[ListItem], k: int) -> list[ListItem]:
    """Fill up a short list with popular items, at most as likely as its last item.

    Lists may be short because withdrawn items are removed after retrieval.
    """
    if not items:
        return list(popular)
    listed, last = {item.item_id for item in items}, items[-1]
    more = [
        ListItem(item.item_id, min(item.score, last.score), item.reason, last.prior)
        for item in popular
        if item.item_id not in listed
    ]
    return [*items, *more[: k - len(items)]]


def _log_softmax(scores: np.ndarray, found: Candidates) -> np.ndarray:
    """Return the log-softmax of scores by user, `(M,)`."""
    if not len(scores):
        return scores
    begins = found.starts[:-1][np.diff(found.starts) > 0]
    # one section per user with candidates
    section = np.cumsum(np.bincount(begins, minlength=len(scores))) - 1
    below_best = scores - np.maximum.reduceat(scores, begins)[section]
    sums = np.add.reduceat(np.exp(below_best), begins, dtype=np.float64)
    likely: np.ndarray = below_best - np.log(sums).astype(np.float32)[section]
    return likely


def _best(likely: np.ndarray, found: Candidates, k: int) -> tuple[np.ndarray, list[int]]:
    """Return the indices of each user's best candidates, best first, and the end of each user's.

    Ties keep their order. NaN scores are excluded: the output of a broken network is worse than popularity.
    """
    places = np.flatnonzero(np.isfinite(likely))
    users = found.users[places]
    bits = likely[places].view(np.int32).astype(np.int64)
    ascending = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    within = places - found.starts[users]
    keys = np.sort(users << _USER_SHIFT | (0x7FFFFFFF - ascending) << _WITHIN_BITS | within)
    users = keys >> _USER_SHIFT
    counts = np.bincount(users, minlength=len(found.starts) - 1)
    is_best = np.arange(len(keys)) - (np.cumsum(counts) - counts)[users] < k
    order = found.starts[users] + (keys & (1 << _WITHIN_BITS) - 1)
    return order[is_best], np.cumsum(np.minimum(counts, k)).tolist()


def _reasons(model: ServingModel, contexts: Sequence[Context], found: Candidates, order: np.ndarray) -> list[Reason]:
    """Return the reason of each listed item: the strongest candidate source, and the triggering item in the history."""
    rows, leads, features = found.rows[order], found.leads[order], found.features[order]
    knows = features[:, 21] > 0
    is_far = ~knows | (features[:, 1] < _FAR)
    own, owners = _own(contexts), found.users[order]
    in_category = newest_own(model.category, rows, owners, own)
    of_category = is_far & (in_category > 0) & model.is_shelved[rows]
    popular = is_far & model.is_popular[rows]
    channels = np.select(
        [leads > 0, of_category, popular, knows], [_NEIGHBOUR, _CATEGORY, _POPULAR, _MODEL], default=_RECENT
    )
    by_model = np.flatnonzero(channels == _MODEL)
    sources = np.where(channels == _CATEGORY, in_category, leads)
    sources[by_model] = nearest_own(model.vectors, rows[by_model], owners[by_model], own)
    whys = (sources * len(_CHANNELS) + channels).tolist()
    known = {}
    for why in set(whys):
        source, channel = divmod(why, len(_CHANNELS))
        known[why] = Reason(_CHANNELS[channel], model.ids[source] if source else None)
    return [known[why] for why in whys]


def _own(contexts: Sequence[Context]) -> np.ndarray:
    """Return the latest distinct rows of each user, newest first, 0 for padding, `(B, NEIGHBOURS_OF)`."""
    own = np.zeros((len(contexts), NEIGHBOURS_OF), np.int64)
    for user, context in enumerate(contexts):
        newest = list(dict.fromkeys(row for row in context.rows[::-1].tolist() if row))[:NEIGHBOURS_OF]
        own[user, : len(newest)] = newest
    return own
