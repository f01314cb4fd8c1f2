"""From users' sequences to candidates with features: what the blend is learned on and what it ranks.

Retrievers, each cheap and each covering what the others miss: the model (exact, over all items), neighbours of the
newest items, popular items of every half-life, and the user's own items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from streamrec.domain.interest import SequenceEvent
from streamrec.model.blend import FEATURES
from streamrec.model.content import category_code
from streamrec.model.covisitation import DISTANCE_DECAY, OTHER_SESSION_WEIGHT, SESSION_GAP_MS
from streamrec.model.nearest import best_rows, score_all
from streamrec.model.popularity import decay
from streamrec.model.serving import ServingModel

NEIGHBOURS_OF = 8
"""So many of the newest distinct items lead to neighbours."""

MODEL_CANDIDATES = 128
MAX_NEIGHBOUR_CANDIDATES = 128
COUNT_FLOOR = 0.02
"""A count below this is as good as none: no evidence rather than strong evidence against."""

_NO_ROWS = np.zeros(0, np.int64)


@dataclass(slots=True)
class Context:
    """A user as the retrievers see it.

    Attributes
    ----------
    rows, event_types, times_ms, categories
        The sequence, oldest first; row 0 where this version does not know the item.
    now_ms
        The instant to recommend for.
    """

    rows: np.ndarray
    event_types: np.ndarray
    times_ms: np.ndarray
    categories: np.ndarray
    now_ms: int


@dataclass(slots=True)
class Candidates:
    """Candidates of one user.

    Attributes
    ----------
    rows
        Distinct rows, ascending, `(C,)`.
    features
        `(C, F)`, float32.
    """

    rows: np.ndarray
    features: np.ndarray


def make_context(model: ServingModel, sequence: Sequence[SequenceEvent]) -> Context:
    """Return the context of a user with this sequence, oldest first."""
    # a user may be behind the stream, never ahead of it by more than the model's own delay
    now_ms = max(model.newest_event_ms, sequence[-1].event_time_ms if sequence else 0)
    rows = np.array([model.row(event.item_id) for event in sequence], np.int64)
    categories = model.category[rows] if len(rows) else np.zeros(0, np.int64)
    for index, event in enumerate(sequence):
        if event.category:
            categories[index] = category_code(event.category)
    return Context(
        rows=rows,
        event_types=np.array([event.event_type for event in sequence], np.int64),
        times_ms=np.array([event.event_time_ms for event in sequence], np.int64),
        categories=categories,
        now_ms=now_ms,
    )


def encode(model: ServingModel, contexts: Sequence[Context]) -> np.ndarray:
    """Return the vector of each user, zero where nothing is known of one, `(B, D)`."""
    hidden = np.zeros((len(contexts), model.vectors.shape[1]), np.float32)
    known = [index for index, context in enumerate(contexts) if context.rows.any()]
    if model.encoder is None or not known:
        return hidden
    max_length = model.encoder.config.max_length
    length = min(max(len(contexts[index].rows) for index in known), max_length)
    rows = np.zeros((len(known), length), np.int64)
    event_types = np.zeros_like(rows)
    times_s = np.zeros((len(known), length), np.float32)
    last = np.zeros(len(known), np.int64)
    for place, index in enumerate(known):
        context = contexts[index]
        n = min(len(context.rows), length)
        rows[place, :n] = context.rows[-n:]
        event_types[place, :n] = context.event_types[-n:]
        times_s[place, :n] = (context.times_ms[-n:] - context.times_ms[-n]) / 1000.0
        last[place] = n - 1
    with torch.inference_mode():
        out = model.encoder(
            torch.from_numpy(model.vectors[rows]), torch.from_numpy(event_types), torch.from_numpy(times_s)
        )
        hidden[known] = out[torch.arange(len(known)), torch.from_numpy(last)].numpy()
    return hidden


def find(  # noqa: PLR0913  # what a list depends on
    model: ServingModel,
    contexts: Sequence[Context],
    hidden: np.ndarray,
    *,
    hide_seen: bool,
    model_candidates: int = MODEL_CANDIDATES,
    withdrawn: np.ndarray | None = None,
    risen: np.ndarray | None = None,
) -> list[Candidates]:
    """Return the candidates of each user with their features.

    Parameters
    ----------
    hidden
        Vectors of the users, from :func:`encode`.
    hide_seen
        Whether items of the user's sequence are left out.
    model_candidates
        How many the model brings in.
    withdrawn
        Rows that are in no list.
    risen
        Rows that occurred after this version, candidates like the popular ones.
    """
    popular = model.popular_rows if risen is None else np.union1d(model.popular_rows, risen)
    knows = np.asarray(hidden.any(axis=1))
    top, cosine = _nearest(model, hidden, model_candidates) if knows.any() else (None, None)
    found = []
    for index, context in enumerate(contexts):
        near, near_weights, near_last = _neighbours(model, context)
        strongest = near
        if len(near) > MAX_NEIGHBOUR_CANDIDATES:
            strongest = near[np.argpartition(-near_weights, MAX_NEIGHBOUR_CANDIDATES)[:MAX_NEIGHBOUR_CANDIDATES]]
        seen = np.unique(context.rows)
        near_model = top[index] if top is not None and knows[index] else _NO_ROWS
        rows = np.unique(np.concatenate([near_model, strongest, popular, seen]))
        if hide_seen:
            rows = np.setdiff1d(rows, seen, assume_unique=True)
        if withdrawn is not None and len(withdrawn):
            rows = np.setdiff1d(rows, withdrawn, assume_unique=True)
        # counts and neighbours may speak of rows that have no item in this version, not yet or not any more
        rows = rows[rows < model.size]
        rows = rows[model.in_use[rows]]
        scores = cosine[index, rows] if cosine is not None and knows[index] else None
        found.append(Candidates(rows, _features(model, context, rows, scores, (near, near_weights, near_last))))
    return found


def _nearest(model: ServingModel, hidden: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows nearest to each user, `(B, n)`, and the cosine with every row, `(B, N)`."""
    scores = score_all(model.vectors, model.size, hidden)
    return best_rows(scores, n), scores.numpy()


def _neighbours(model: ServingModel, context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct neighbours of the newest items, their summed weights, and those from the last item alone."""
    rows, weights, last = [], [], []
    weight, later_ms = 1.0, context.now_ms
    done: set[int] = set()
    for row, time_ms in zip(reversed(context.rows.tolist()), reversed(context.times_ms.tolist()), strict=True):
        if later_ms - time_ms > SESSION_GAP_MS:
            weight *= OTHER_SESSION_WEIGHT
        later_ms = time_ms
        if row and row not in done:
            known = model.neighbours.get(row)
            if known is not None:
                share = known[1] / (known[1].sum() or 1.0)  # weights that decayed to nothing
                rows.append(known[0])
                weights.append(weight * share)
                last.append(share if not done else np.zeros_like(share))
            done.add(row)
            if len(done) == NEIGHBOURS_OF:
                break
        weight *= DISTANCE_DECAY
    if not rows:
        empty = np.zeros(0, np.float32)
        return np.zeros(0, np.int64), empty, empty
    distinct, inverse = np.unique(np.concatenate(rows), return_inverse=True)
    return (
        distinct,
        np.bincount(inverse, np.concatenate(weights), len(distinct)),
        np.bincount(inverse, np.concatenate(last), len(distinct)),
    )


def _features(
    model: ServingModel,
    context: Context,
    rows: np.ndarray,
    cosine: np.ndarray | None,
    near: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return the features of candidates, in the order of `FEATURES`."""
    out = np.zeros((len(rows), len(FEATURES)), np.float32)
    if not len(rows):
        return out
    if cosine is not None:
        out[:, 0] = cosine * 2.0
        out[:, 1] = (cosine - cosine.max()) * 4.0
        out[:, 21] = 1.0
    counts = model.counts[rows] * decay(context.now_ms - model.reference_ms).astype(np.float32)
    out[:, 2:8] = np.log(counts + COUNT_FLOOR) * 0.3
    out[:, 8] = _log_hours(context.now_ms - model.first_ms[rows])
    out[:, 9] = _log_hours(context.now_ms - model.last_ms[rows])
    out[:, 10] = np.log1p(model.events[rows]) * 0.3
    distinct, weights, last = near
    if len(distinct):
        place = np.minimum(np.searchsorted(distinct, rows), len(distinct) - 1)
        hit = distinct[place] == rows
        out[:, 11] = np.where(hit, np.log(weights[place] + 1e-3) + 7.0, 0.0) * 0.2
        out[:, 12] = np.where(hit & (last[place] > 0), np.log(last[place] + 1e-3) + 7.0, 0.0) * 0.2
        out[:, 13] = hit
    if len(context.rows):
        _user_features(model, context, rows, out)
    out[:, 19] = np.log1p(len(context.rows)) * 0.3
    if len(context.rows) > 1:
        out[:, 20] = _log_hours(context.times_ms[-1] - context.times_ms[-2])
    return out


def _user_features(model: ServingModel, context: Context, rows: np.ndarray, out: np.ndarray) -> None:
    """Fill in what depends on the user's own items and categories."""
    own, own_newest, own_counts = np.unique(context.rows[::-1], return_index=True, return_counts=True)
    place = np.minimum(np.searchsorted(own, rows), len(own) - 1)
    hit = own[place] == rows
    out[:, 14] = hit
    out[:, 15] = np.where(hit, np.log(own_counts[place]), 0.0)
    out[:, 16] = np.where(hit, 1.0 / (1.0 + 0.3 * own_newest[place]), 0.0)
    category = model.category[rows]
    named = category > 0
    if context.categories.any():
        out[:, 17] = named & (category == context.categories[-1])
        weights = DISTANCE_DECAY ** np.arange(len(context.categories))[::-1]
        codes, inverse = np.unique(context.categories, return_inverse=True)
        shares = np.bincount(inverse, weights) / weights.sum()
        at = np.minimum(np.searchsorted(codes, category), len(codes) - 1)
        out[:, 18] = np.where(named & (codes[at] == category), shares[at], 0.0)


def _log_hours(ms: np.ndarray | np.integer) -> np.ndarray:
    logs: np.ndarray = np.log1p(np.maximum(ms, 0) / 60_000.0) * 0.15
    return logs
