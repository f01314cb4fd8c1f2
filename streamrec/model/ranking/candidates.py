"""Retrieves candidates with features for users' sequences: the input of the second-stage ranker.

Every channel of a version returns candidates, each cheap and complementing the others; the items of the user's own
sequence are candidates, too. Then each channel describes all of them.

Users are processed in batches, because a list takes microseconds of arithmetic but many calls. Data of several users is
concatenated in flat arrays: B users, E events and M candidates in total, W rows of the model, padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.ranking import features as base
from streamrec.model.ranking.context import Context
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.retriever import OWN_ITEMS, Candidates, Found, Retrieval, Users
from streamrec.model.tables.vocabulary import BLOCK_ROWS


class Described(NamedTuple):
    """Candidates of several users with their features.

    Attributes
    ----------
    users
        The users.
    candidates
        The candidates of all channels.
    features
        `(M, F)`, float32.
    retrievals
        The contribution of each channel, in the order of `ServingModel.retrievers`.
    """

    users: Users
    candidates: Candidates
    features: np.ndarray
    retrievals: Sequence[Retrieval]


def encode(model: ServingModel, contexts: Sequence[Context]) -> np.ndarray:
    """Return the vector of each user, zero for unknown users, `(B, D)`."""
    hidden = np.zeros((len(contexts), model.vectors.dim), np.float32)
    known = [index for index, context in enumerate(contexts) if context.rows.any()]
    if model.encoder is None or not known:
        return hidden
    newest = slice(-model.encoder.config.max_length, None)
    of_known = [contexts[index] for index in known]
    times_s = [(context.times_ms[newest] - context.times_ms[newest][0]) / 1000.0 for context in of_known]
    hidden[known] = model.encoder(
        model.vectors.take(np.concatenate([context.rows[newest] for context in of_known])),
        np.concatenate([context.event_types[newest] for context in of_known]),
        np.concatenate(times_s).astype(np.float32),
        np.array([len(times) for times in times_s]),
    )
    return hidden


def find(  # inputs of a list
    model: ServingModel,
    contexts: Sequence[Context],
    hidden: np.ndarray,
    *,
    k: int = 0,
    withdrawn: np.ndarray | None = None,
    risen: np.ndarray | None = None,
) -> Described:
    """Return the candidates of each user with their features.

    Parameters
    ----------
    hidden
        Vectors of the users, from :func:`encode`, `(B, D)`.
    k
        Requested length of the lists.
    withdrawn
        Withdrawn rows.
    risen
        Rows with events after this version, candidates like the popular ones.
    """
    users = _users([context.of_interest for context in contexts], hidden, k)
    found = [retriever.find(model, users) for retriever in model.retrievers]
    if risen is not None:
        risen = risen[risen < model.size]
        found.append(Found(np.tile(risen, len(contexts)), len(risen) * np.arange(1, len(contexts) + 1)))
    left_out = [context.left_out for context in contexts]
    candidates = _united(
        [Found(users.rows, users.ends), *found],
        Found(np.concatenate(left_out), np.cumsum([len(rows) for rows in left_out])),
        _may_be(model, withdrawn),
    )
    features = np.zeros((len(model.blend.features), len(candidates.rows)), np.float32)
    end = len(base.FEATURES)
    base.describe(model, users, candidates, features[:end])
    retrievals = []
    for retriever, its in zip(model.retrievers, found, strict=False):
        begin, end = end, end + len(retriever.features)
        retrieval = Retrieval(model, users, its, candidates, features[begin:end])
        retriever.describe(retrieval)
        retrievals.append(retrieval)
    return Described(users, candidates, features.T, retrievals)


def _users(contexts: Sequence[Context], hidden: np.ndarray, k: int) -> Users:
    ends, rows = np.cumsum([len(context.rows) for context in contexts]), [context.rows for context in contexts]
    together = np.concatenate(rows)
    return Users(
        ends=ends,
        rows=together,
        times_ms=np.concatenate([context.times_ms for context in contexts]),
        categories=np.concatenate([context.categories for context in contexts]),
        event_types=np.concatenate([context.event_types for context in contexts]),
        now_ms=np.array([context.now_ms for context in contexts], np.int64),
        contexts=np.stack([context.codes for context in contexts]),
        hidden=hidden,
        own=_latest(together, ends),
        k=k,
    )


def _may_be(model: ServingModel, withdrawn: np.ndarray | None) -> np.ndarray:
    """Return whether each row may be in a list, `(W,)`, W a multiple of 8."""
    # channels may return rows without an item in this version, not yet or no longer
    may_be = np.zeros(-(-model.size // BLOCK_ROWS) * BLOCK_ROWS, bool)
    may_be[: model.size] = model.in_use
    if withdrawn is not None:
        may_be[withdrawn[withdrawn < model.size]] = False
    return may_be


def _united(found: Sequence[Found], left_out: Found, may_be: np.ndarray) -> Candidates:
    """Return the distinct rows that channels found and that may be listed."""
    ends = np.array([each.ends for each in found], np.int64)
    rows = np.concatenate([each.rows for each in found])
    return Candidates(*_unite(rows, ends, left_out.rows, left_out.ends, may_be))


@compiled
def _latest(rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the latest distinct rows of each user, newest first, 0 for padding, `(B, OWN_ITEMS)`."""
    latest = np.zeros((len(ends), OWN_ITEMS), np.int64)
    begin = 0
    for user in range(len(ends)):
        count = 0
        for event in range(ends[user] - 1, begin - 1, -1):
            at = 0
            while at < count and latest[user, at] != rows[event]:
                at += 1
            if at == count and rows[event] > 0:
                latest[user, count] = rows[event]
                count += 1
                if count == OWN_ITEMS:
                    break
        begin = ends[user]
    return latest


@compiled
def _unite(
    rows: np.ndarray,
    ends: np.ndarray,
    left_out: np.ndarray,
    left_out_ends: np.ndarray,
    may_be: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct rows of each user, ascending, their users, and their starts, `(B + 1,)`.

    Parameters
    ----------
    rows
        Rows of all channels, one channel after the other.
    ends
        End of each user's rows within those of each channel, `(channels, B)`.
    left_out, left_out_ends
        Excluded rows, concatenated by user, and the end of each user's.
    may_be
        Whether a row may be in a list.
    """
    is_candidate = np.zeros(len(may_be), np.uint8)
    eights = is_candidate.view(np.uint64)
    taken, users = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    starts = np.zeros(ends.shape[1] + 1, np.int64)
    count, left_out_begin = 0, 0
    for user in range(ends.shape[1]):
        offset = 0
        for channel in range(len(ends)):
            begin = ends[channel, user - 1] if user else 0
            for row in rows[offset + begin : offset + ends[channel, user]]:
                is_candidate[row] = 1
            offset += ends[channel, -1]
        for row in left_out[left_out_begin : left_out_ends[user]]:
            is_candidate[row] = 0
        left_out_begin = left_out_ends[user]
        for eight in range(len(eights)):
            if eights[eight] == 0:
                continue
            for row in range(8 * eight, 8 * eight + 8):
                if is_candidate[row] and may_be[row]:
                    taken[count], users[count] = row, user
                    count += 1
            eights[eight] = 0
        starts[user + 1] = count
    return taken[:count], users[:count], starts
