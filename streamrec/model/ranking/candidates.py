"""Retrieves candidates with features for users' sequences: the input of the second-stage ranker.

Retrievers, each cheap and complementing the others: the model (exact, over all items), neighbours of the latest items,
popular items for every half-life, popular and new items in the user's categories, and the items in the user's history.

Users are processed in batches, because a list takes microseconds of arithmetic but many calls. Data of several users is
concatenated in flat arrays: B users, E events and M candidates in total, W rows of the model, padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamrec.model.ranking.blend import FEATURES
from streamrec.model.ranking.context import Context
from streamrec.model.ranking.features import LOG_SCALE, LOG_SHIFT, LOGS, Found, Tables, Users
from streamrec.model.ranking.kernels import MAX_CATEGORY_CANDIDATES, MAX_NEIGHBOUR_CANDIDATES, describe
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.nearest import nearest
from streamrec.model.tables.popularity import decay
from streamrec.model.tables.vocabulary import BLOCK_ROWS

MODEL_CANDIDATES = 128


@dataclass(slots=True)
class Candidates:
    """Candidates of several users.

    Attributes
    ----------
    users, rows
        User and row of each candidate, in ascending order without duplicates, `(M,)`.
    starts
        Start of each user's candidates, and end of the last one's, `(B + 1,)`.
    leads
        Item in the history with it as its strongest neighbour, 0 if none, `(M,)`.
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
        """Return the index of each user's candidate with this row, -1 if none, `(B,)`."""
        width = max(int(self.rows.max(initial=0)), int(rows.max(initial=0))) + 1
        return _places(self.users * width + self.rows, np.arange(len(rows)) * width + rows)


def encode(model: ServingModel, contexts: Sequence[Context]) -> np.ndarray:
    """Return the vector of each user, zero for unknown users, `(B, D)`."""
    hidden = np.zeros((len(contexts), model.vectors.shape[1]), np.float32)
    known = [index for index, context in enumerate(contexts) if context.rows.any()]
    if model.encoder is None or not known:
        return hidden
    newest = slice(-model.encoder.config.max_length, None)
    of_known = [contexts[index] for index in known]
    times_s = [(context.times_ms[newest] - context.times_ms[newest][0]) / 1000.0 for context in of_known]
    hidden[known] = model.encoder(
        model.vectors[np.concatenate([context.rows[newest] for context in of_known])],
        np.concatenate([context.event_types[newest] for context in of_known]),
        np.concatenate(times_s).astype(np.float32),
        np.array([len(times) for times in times_s]),
    )
    return hidden


def find(  # noqa: PLR0913  # inputs of a list
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
        Whether to exclude seen items.
    model_candidates
        Number of candidates from the model.
    withdrawn
        Withdrawn rows.
    risen
        Rows with events after this version, candidates like the popular ones.
    """
    users = _users(model, contexts, hidden, model_candidates, hide_seen=hide_seen)
    everyones = model.popular_rows
    if risen is not None and len(risen):
        everyones = np.concatenate([everyones, risen[risen < model.size]])
    of_retrievers = len(everyones) + users.nearest.shape[1] + MAX_NEIGHBOUR_CANDIDATES + MAX_CATEGORY_CANDIDATES
    room = len(contexts) * of_retrievers + len(users.rows)
    found = Found(
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty((room, len(FEATURES)), np.float32),
        np.empty((room, len(LOG_SCALE)), np.float32),
    )
    ends = describe(_tables(model, withdrawn), users, everyones, found)
    starts = np.concatenate([np.zeros(1, np.int64), ends])
    count = int(ends[-1])
    logs = np.log(found.logs[:count], out=found.logs[:count])
    found.features[:count, LOGS] = logs * LOG_SCALE + LOG_SHIFT
    return Candidates(
        users=np.repeat(np.arange(len(contexts)), np.diff(starts)),
        rows=found.rows[:count],
        starts=starts,
        leads=found.leads[:count],
        features=found.features[:count],
    )


def _users(
    model: ServingModel, contexts: Sequence[Context], hidden: np.ndarray, model_candidates: int, *, hide_seen: bool
) -> Users:
    now_ms = np.array([context.now_ms for context in contexts], np.int64)
    knows = np.flatnonzero(hidden.any(axis=1))
    near = np.full((len(contexts), model_candidates), -1, np.int64)
    if len(knows):
        vectors, rough = model.vectors[: model.size], model.rough.head(model.size)
        rows = nearest(vectors, rough, hidden[knows], model_candidates)
        near[knows, : rows.shape[1]] = rows
    left_out = [each.left_out if hide_seen else each.left_out[:0] for each in contexts]
    return Users(
        ends=np.cumsum([len(context.rows) for context in contexts]),
        rows=np.concatenate([context.rows for context in contexts]),
        times_ms=np.concatenate([context.times_ms for context in contexts]),
        categories=np.concatenate([context.categories for context in contexts]),
        now_ms=now_ms,
        decays=decay((now_ms - model.reference_ms)[:, None]).astype(np.float32),
        hidden=hidden,
        nearest=near,
        left_out=np.concatenate(left_out),
        left_out_ends=np.cumsum([len(rows) for rows in left_out]),
    )


def _tables(model: ServingModel, withdrawn: np.ndarray | None) -> Tables:
    # counts and neighbours may refer to rows without an item in this version, not yet or no longer
    may_be = np.zeros(-(-model.size // BLOCK_ROWS) * BLOCK_ROWS, bool)
    may_be[: model.size] = model.in_use
    if withdrawn is not None:
        may_be[withdrawn[withdrawn < model.size]] = False
    return Tables(
        model.vectors,
        model.counts,
        model.first_ms,
        model.last_ms,
        model.events,
        model.category,
        model.neighbours,
        model.shares,
        *model.shelves,
        may_be,
    )


def _places(ascending: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the index of each wanted value, -1 if missing."""
    if not len(ascending):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[place] == wanted, place, -1)
