"""From users' sequences to candidates with features: what the blend is learned on and what it ranks.

Retrievers, each cheap and each covering what the others miss: the model (exact, over all items), neighbours of the
newest items, popular items of every half-life, and the user's own items.

Users are handled together, for a list takes microseconds of arithmetic and many calls. What belongs to several users
lies in flat arrays, one user's part after the other's: B users, E events and M candidates of all of them, W rows of the
model, padded.
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

_LARGEST_CODE = 1 << 31
"""Of a category, and more."""


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
    """Candidates of several users.

    Attributes
    ----------
    users, rows
        Whose candidate and which row, ascending and distinct together, `(M,)`.
    starts
        Where each user's candidates begin, and where the last one's end, `(B + 1,)`.
    leads
        Which of the user's own items has it as its strongest neighbour, 0 where none has, `(M,)`.
    features
        `(M, F)`, float32.
    """

    users: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    leads: np.ndarray
    features: np.ndarray

    def of(self, user: int) -> Candidates:
        """Return the candidates of one user."""
        part = slice(self.starts[user], self.starts[user + 1])
        return Candidates(
            self.users[part], self.rows[part], self.starts[user : user + 2], self.leads[part], self.features[part]
        )

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return where each user's candidate of this row is, -1 where it is none, `(B,)`."""
        width = max(int(self.rows.max(initial=0)), int(rows.max(initial=0))) + 1
        return _places(self.users * width + self.rows, np.arange(len(rows)) * width + rows)


@dataclass(slots=True)
class _Events:
    """The sequences of all users."""

    users: np.ndarray
    rows: np.ndarray
    categories: np.ndarray
    steps_back: np.ndarray
    """How many events of the same user are newer."""
    counts: np.ndarray
    """By user, `(B,)`."""


@dataclass(slots=True)
class _Near:
    """Distinct neighbours of each user's newest items."""

    keys: np.ndarray
    """`user * W + row`, ascending."""
    weights: np.ndarray
    of_last: np.ndarray
    """The part of the weights that comes from the last item."""
    leads: np.ndarray
    """Which item has it as its strongest neighbour."""


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
        hidden[known] = model.encoder(
            torch.from_numpy(model.vectors[rows]),
            torch.from_numpy(event_types),
            torch.from_numpy(times_s),
            torch.from_numpy(last),
        ).numpy()
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
) -> Candidates:
    """Return the candidates of each user with their features.

    Parameters
    ----------
    hidden
        Vectors of the users, from :func:`encode`, `(B, D)`.
    hide_seen
        Whether items of the user's sequence are left out.
    model_candidates
        How many the model brings in.
    withdrawn
        Rows that are in no list.
    risen
        Rows that occurred after this version, candidates like the popular ones.
    """
    knows = np.flatnonzero(hidden.any(axis=1))
    scores = score_all(model.vectors, model.size, hidden[knows])
    width = scores.shape[1]
    events, near = _events(contexts), _neighbours(model, contexts, width)
    is_candidate = np.zeros((len(contexts), width), bool)
    is_candidate[:, model.popular_rows] = True
    if risen is not None:
        is_candidate[:, risen[risen < model.size]] = True
    is_candidate.reshape(-1)[_strongest(near, width)] = True
    if len(knows):
        is_candidate[knows[:, None], best_rows(scores, model_candidates)] = True
    is_candidate[events.users, events.rows] = not hide_seen
    # counts and neighbours may speak of rows that have no item in this version, not yet or not any more
    may_be = np.zeros(width, bool)
    may_be[: model.size] = model.in_use
    if withdrawn is not None:
        may_be[withdrawn[withdrawn < width]] = False
    is_candidate &= may_be
    keys = np.flatnonzero(is_candidate)
    users, rows = np.divmod(keys, width)
    starts = np.searchsorted(users, np.arange(len(contexts) + 1))
    found = Candidates(
        users, rows, starts, np.zeros(len(keys), np.int64), np.zeros((len(keys), len(FEATURES)), np.float32)
    )
    if len(keys):
        _add_cosines(found, scores.numpy(), knows)
        _add_counts(found, model, np.array([context.now_ms for context in contexts]))
        _add_neighbours(found, near, keys)
        _add_repeats(found, events, keys, width)
        _add_categories(found, events, model)
        _add_lengths(found, events, contexts)
        _add_sessions(found, events, contexts, keys, width)
    return found


def _events(contexts: Sequence[Context]) -> _Events:
    counts = np.array([len(context.rows) for context in contexts])
    users = np.repeat(np.arange(len(contexts)), counts)
    return _Events(
        users=users,
        rows=np.concatenate([context.rows for context in contexts]),
        categories=np.concatenate([context.categories for context in contexts]),
        steps_back=np.cumsum(counts)[users] - 1 - np.arange(len(users)),
        counts=counts,
    )


def _neighbours(model: ServingModel, contexts: Sequence[Context], width: int) -> _Near:
    """Return the neighbours of the newest items of each user."""
    users, sources, weights, of_last = [], [], [], []
    rows, shares = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for user, context in enumerate(contexts):
        weight, later_ms = 1.0, context.now_ms
        done: set[int] = set()
        for row, time_ms in zip(context.rows[::-1].tolist(), context.times_ms[::-1].tolist(), strict=True):
            if later_ms - time_ms > SESSION_GAP_MS:
                weight *= OTHER_SESSION_WEIGHT
            later_ms = time_ms
            if row and row not in done:
                known = model.neighbours.get(row)
                if known is not None:
                    users.append(user)
                    sources.append(row)
                    rows.append(known[0])
                    shares.append(known[1])
                    weights.append(weight)
                    of_last.append(not done)
                done.add(row)
                if len(done) == NEIGHBOURS_OF:
                    break
            weight *= DISTANCE_DECAY
    lengths = [len(part) for part in rows[1:]]
    all_rows = np.concatenate(rows)
    exists = all_rows < model.size
    keys = (np.repeat(np.array(users, np.int64), lengths) * width + all_rows)[exists]
    share = np.concatenate(shares)[exists]
    distinct, inverse = np.unique(keys, return_inverse=True)
    leads = np.zeros(len(distinct), np.int64)
    ascending = np.argsort(share, kind="stable")  # the strongest comes last and stays
    leads[inverse[ascending]] = np.repeat(np.array(sources, np.int64), lengths)[exists][ascending]
    return _Near(
        keys=distinct,
        weights=np.bincount(inverse, np.repeat(weights, lengths)[exists] * share, len(distinct)),
        of_last=np.bincount(inverse, np.repeat(of_last, lengths)[exists] * share, len(distinct)),
        leads=leads,
    )


def _strongest(near: _Near, width: int) -> np.ndarray:
    """Return the keys of each user's strongest neighbours."""
    users = near.keys // width
    if np.bincount(users).max(initial=0) <= MAX_NEIGHBOUR_CANDIDATES:
        return near.keys
    order = np.lexsort((-near.weights, users))
    place = np.arange(len(users)) - np.searchsorted(users, users)
    return near.keys[order[place < MAX_NEIGHBOUR_CANDIDATES]]


def _add_cosines(found: Candidates, scores: np.ndarray, knows: np.ndarray) -> None:
    known = np.full(len(found.starts) - 1, -1)
    known[knows] = np.arange(len(knows))
    has = known[found.users] >= 0
    cosine = scores[known[found.users[has]], found.rows[has]]
    begins = np.unique(found.users[has], return_index=True)[1]
    best = np.maximum.reduceat(cosine, begins) if len(begins) else cosine
    found.features[has, 0] = cosine * 2.0
    found.features[has, 1] = (cosine - np.repeat(best, np.diff([*begins, len(cosine)]))) * 4.0
    found.features[has, 21] = 1.0


def _add_counts(found: Candidates, model: ServingModel, now_ms: np.ndarray) -> None:
    rows, out = found.rows, found.features
    now = now_ms[found.users]
    decayed = decay((now_ms - model.reference_ms)[:, None]).astype(np.float32)
    out[:, 2:8] = np.log(model.counts[rows] * decayed[found.users] + COUNT_FLOOR) * 0.3
    out[:, 8] = _log_hours(now - model.first_ms[rows])
    out[:, 9] = _log_hours(now - model.last_ms[rows])
    out[:, 10] = np.log1p(model.events[rows]) * 0.3


def _add_neighbours(found: Candidates, near: _Near, keys: np.ndarray) -> None:
    place = _places(near.keys, keys)
    hit = place >= 0
    place = place[hit]
    found.leads[hit] = near.leads[place]
    found.features[hit, 11] = (np.log(near.weights[place] + 1e-3) + 7.0) * 0.2
    of_last = near.of_last[place]
    found.features[hit, 12] = np.where(of_last > 0, np.log(of_last + 1e-3) + 7.0, 0.0) * 0.2
    found.features[hit, 13] = 1.0


def _add_repeats(found: Candidates, events: _Events, keys: np.ndarray, width: int) -> None:
    # newest first, so that the first of a key is its newest
    own, newest, counts = np.unique((events.users * width + events.rows)[::-1], return_index=True, return_counts=True)
    place = _places(own, keys)
    hit = place >= 0
    place = place[hit]
    found.features[hit, 14] = 1.0
    found.features[hit, 15] = np.log(counts[place])
    found.features[hit, 16] = 1.0 / (1.0 + 0.3 * events.steps_back[::-1][newest[place]])


def _add_categories(found: Candidates, events: _Events, model: ServingModel) -> None:
    if not events.categories.any():
        return
    category = model.category[found.rows]
    named = category > 0
    newest = np.zeros(len(found.starts) - 1, np.int64)
    is_newest = events.steps_back == 0
    newest[events.users[is_newest]] = events.categories[is_newest]
    found.features[:, 17] = named & (category == newest[found.users])
    weights = DISTANCE_DECAY**events.steps_back
    codes, inverse = np.unique(events.users * _LARGEST_CODE + events.categories, return_inverse=True)
    shares = np.bincount(inverse, weights) / np.bincount(events.users, weights)[codes // _LARGEST_CODE]
    place = _places(codes, found.users * _LARGEST_CODE + category)
    hit = named & (place >= 0)
    found.features[hit, 18] = shares[place[hit]]


def _add_lengths(found: Candidates, events: _Events, contexts: Sequence[Context]) -> None:
    gap_ms = np.array([int(c.times_ms[-1] - c.times_ms[-2]) if len(c.rows) > 1 else 0 for c in contexts])
    found.features[:, 19] = (np.log1p(events.counts) * 0.3)[found.users]
    found.features[:, 20] = _log_hours(gap_ms)[found.users]


def _add_sessions(
    found: Candidates, events: _Events, contexts: Sequence[Context], keys: np.ndarray, width: int
) -> None:
    """Say how long ago a user had an item, and whether in the session that goes on."""
    if not len(events.users):
        return
    now_ms = np.array([context.now_ms for context in contexts])
    times_ms = np.concatenate([context.times_ms for context in contexts])
    pauses = np.append(np.diff(times_ms) > SESSION_GAP_MS, False)
    ends = np.cumsum(events.counts) - 1
    silence_ms = np.where(events.counts > 0, now_ms - times_ms[ends], 0)
    pauses[ends[events.counts > 0]] = (silence_ms > SESSION_GAP_MS)[events.counts > 0]
    later_pauses = np.cumsum(pauses)
    # the pause after an event counts: none up to the end means that its session goes on
    goes_on = later_pauses[ends][events.users] - later_pauses + pauses == 0
    lengths = np.bincount(events.users[goes_on], minlength=len(contexts))
    own, newest = np.unique((events.users * width + events.rows)[::-1], return_index=True)
    place = _places(own, keys)
    hit = place >= 0
    last = len(times_ms) - 1 - newest[place[hit]]
    found.features[hit, 22] = _log_hours(now_ms[found.users[hit]] - times_ms[last])
    found.features[hit, 23] = goes_on[last]
    found.features[:, 24] = _log_hours(silence_ms)[found.users]
    found.features[:, 25] = (np.log1p(lengths) * 0.3)[found.users]


def _places(ascending: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each wanted value is, -1 where it is not."""
    if not len(ascending):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[place] == wanted, place, -1)


def _log_hours(ms: np.ndarray) -> np.ndarray:
    logs: np.ndarray = np.log1p(np.maximum(ms, 0) / 60_000.0) * 0.15
    return logs
