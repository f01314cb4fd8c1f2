"""Builds lists from scored candidates: the best per user, their probabilities and reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from streamrec.contracts.listed_items import (
    GREATEST_SCORE,
    LEAST_SCORE,
    MAX_LEADS,
    STEPS,
    ListedItems,
    ListItem,
    Reason,
)
from streamrec.domain.interest import SequenceEvent
from streamrec.model.compiled import compiled
from streamrec.model.ranking.candidates import Described, find
from streamrec.model.ranking.context import make_context
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.channels import DEFAULT, retrievers_of
from streamrec.model.retrievers.item_lists import ItemLists
from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.retrievers.nearest import nearest
from streamrec.model.retrievers.neighbour import NeighbourRetriever
from streamrec.model.retrievers.products import KERNELS
from streamrec.model.retrievers.retriever import Candidates
from streamrec.model.tables import context_counts, session_log
from streamrec.model.tables.content import MAX_PARTS
from streamrec.model.tables.popularity import HALF_LIVES_MS

NEVER = -1.0
"""Count of an excluded item."""

OWN = "recent"
"""Reason of an item that no channel explains: the user's own, or one that is new to the stream."""

_LEAST_STRENGTH = 1e-6
"""Strength of this reason: any channel that explains an item at all is a better one."""

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
            by_row = np.full(model.size, self._least, np.float32)
            rows = [model.row(item_id) for item_id in self._scores]
            by_row[rows] = list(self._scores.values())
            self._by_row = (model, by_row)
        return by_row


def best_lists(
    model: ServingModel, found: Described, scores: np.ndarray, k: int, prior: Prior | None
) -> list[ListedItems]:
    """Return the `k` best candidates of each user, best first; none for a user whose scores are NaN.

    Parameters
    ----------
    scores
        Score of each candidate, `(M,)`, float32.
    prior
        Prior scores of the items, if available yet.
    """
    likely = log_softmax(scores, found.candidates)
    order, ends = _best(likely, found.candidates, k)
    rows = found.candidates.rows[order]
    ids = [model.ids[row] for row in rows.tolist()]
    score_column = packed(likely[order])
    prior_column = b"" if prior is None else packed(prior.by_row(model)[rows])
    why, leads = _reasons(model, found, order)
    channels = [*(retriever.name for retriever in model.retrievers), OWN]
    lead_rows, lead_ends, lead_places = _distinct(leads, ends, MAX_LEADS)
    lead_ids = [model.ids[row] for row in lead_rows.tolist()]
    reasons = bytes(np.stack([why, lead_places], axis=1).astype(np.uint8))
    lists, begin, lead_begin = [], 0, 0
    for end, lead_end in zip(ends.tolist(), lead_ends.tolist(), strict=True):
        column = slice(2 * begin, 2 * end)
        lists.append(
            ListedItems(
                ids[begin:end],
                score_column[column],
                reasons[column],
                channels,
                lead_ids[lead_begin:lead_end],
                prior_column[column],
            )
        )
        begin, lead_begin = end, lead_end
    return lists


def packed(scores: np.ndarray) -> bytes:
    """Encode scores, float32, for a column of a list."""
    return bytes(_steps(scores).astype("<i2", copy=False))


def warm_up() -> None:
    """Compile the loops, or load them from the cache, in advance."""
    units = np.eye(4, dtype=np.float32)
    vectors = ItemVectors.of(units)
    for kernel in KERNELS:
        nearest(vectors, len(units), units, 1, kernel=kernel)
        nearest(vectors, len(units), units[:1], 1, kernel=kernel)
    neighbours = NeighbourRetriever()
    neighbours.lists = ItemLists(np.ones((4, 1), np.int32), np.ones((4, 1), np.float32))
    session_log.warm_up()
    context_counts.warm_up()
    ids = ["", "a", "b", "c"]
    model = ServingModel(
        ids=ids,
        rows={item_id: row for row, item_id in enumerate(ids) if item_id},
        size=len(ids),
        vectors=vectors,
        counts=np.ones((4, len(HALF_LIVES_MS)), np.float32),
        first_ms=np.ones(4, np.int64),
        last_ms=np.ones(4, np.int64),
        events=np.ones(4, np.int64),
        category=np.ones(4, np.int64),
        words=np.ones((4, MAX_PARTS), np.uint16),
        retrievers=(neighbours, *retrievers_of(set(DEFAULT) - {neighbours.name})),
    )
    context = make_context(model, [SequenceEvent(1, 0, 0, 0, "a", "", (1,))])
    found = find(model, [context], units[1:2])
    best_lists(model, found, np.zeros(len(found.features), np.float32), 1, None)


def most_popular(model: ServingModel, counts: np.ndarray, k: int) -> ListedItems:
    """Return the items with the highest counts, best first, excluding negative ones; `counts` by row."""
    n = min(k, len(counts))
    top = np.argpartition(-counts, n - 1)[:n]
    top = top[np.argsort(-counts[top], kind="stable")]
    return ListedItems.of(
        [
            ListItem(model.ids[row], math.log1p(float(counts[row])), Reason("popular"))
            for row in top.tolist()
            if counts[row] >= 0 and model.ids[row]
        ]
    )


def filled(items: ListedItems, popular: ListedItems, k: int) -> ListedItems:
    """Fill up a short list with popular items, at most as likely as its last item.

    Lists may be short because withdrawn items are removed after retrieval.
    """
    if not items:
        return popular
    listed, last = set(items.ids), items[-1]
    more = [
        ListItem(item.item_id, min(item.score, last.score), item.reason, last.prior)
        for item in popular
        if item.item_id not in listed
    ]
    return ListedItems.of([*items, *more[: k - len(items)]])


def log_softmax(scores: np.ndarray, found: Candidates) -> np.ndarray:
    """Return the log-softmax of scores by user, `(M,)`; NaN for a user with NaN among the scores."""
    likely: np.ndarray = _log_softmax(scores, found.starts)
    return likely


def _best(likely: np.ndarray, found: Candidates, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of each user's best candidates, best first, and the end of each user's, `(B,)`.

    Ties keep their order. NaN scores are excluded: the output of a broken network is worse than popularity.
    """
    order, ends = _first(np.sort(_keys(likely, found.starts)), found.starts, k)
    return order, ends


def _reasons(model: ServingModel, found: Described, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the channel that explains each listed item best, and the user's item that led to it, 0 for none."""
    strengths = np.zeros((len(model.retrievers) + 1, len(order)), np.float32)
    strengths[-1] = _LEAST_STRENGTH
    channels = list(zip(model.retrievers, found.retrievals, strict=True))
    for number, (retriever, retrieval) in enumerate(channels):
        if (strength := retriever.explains(retrieval, order)) is not None:
            strengths[number] = strength
    why = strengths.argmax(axis=0)
    leads = np.zeros(len(order), np.int64)
    for number, (retriever, retrieval) in enumerate(channels):
        own = np.flatnonzero(why == number)
        if (lead := retriever.leads(retrieval, order[own])) is not None:
            leads[own] = lead
    return why, leads


@compiled
def _log_softmax(scores: np.ndarray, starts: np.ndarray) -> np.ndarray:
    likely = np.empty(len(scores), np.float32)
    for user in range(len(starts) - 1):
        own, written = scores[starts[user] : starts[user + 1]], likely[starts[user] : starts[user + 1]]
        best, total = np.float32(-np.inf), 0.0
        for score in own:
            best = max(best, score)
        for score in own:
            total += np.exp(score - best)
        logged = np.float32(np.log(total))
        for at in range(len(own)):
            written[at] = own[at] - best - logged
    return likely


@compiled
def _keys(likely: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return integers in the order of users, descending scores and indices, for each finite score."""
    bits = likely.view(np.int32)
    keys, count = np.empty(len(likely), np.int64), 0
    for user in range(len(starts) - 1):
        for at in range(starts[user], starts[user + 1]):
            if np.isfinite(likely[at]):
                ascending = np.int64(bits[at]) if bits[at] >= 0 else np.int64(bits[at]) ^ 0x7FFFFFFF
                keys[count] = user << _USER_SHIFT | (0x7FFFFFFF - ascending) << _WITHIN_BITS | (at - starts[user])
                count += 1
    return keys[:count]


@compiled
def _first(keys: np.ndarray, starts: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the first `k` keys of each user, sorted, and the end of each user's."""
    order, ends = np.empty(len(keys), np.int64), np.zeros(len(starts) - 1, np.int64)
    count, at = 0, 0
    for user in range(len(ends)):
        most = count + k
        while at < len(keys) and keys[at] >> _USER_SHIFT == user:
            if count < most:
                order[count] = starts[user] + (keys[at] & ((1 << _WITHIN_BITS) - 1))
                count += 1
            at += 1
        ends[user] = count
    return order[:count], ends


@compiled
def _steps(scores: np.ndarray) -> np.ndarray:
    """Return scores as multiples of a step, int16."""
    steps = np.empty(len(scores), np.int16)
    for at in range(len(scores)):
        steps[at] = min(max(np.rint(scores[at] * STEPS), LEAST_SCORE), GREATEST_SCORE)
    return steps


@compiled
def _distinct(rows: np.ndarray, ends: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct rows of each user, at most so many, the end of each user's, and 1 + the place of each row.

    A row that is 0 or beyond the number has place 0.
    """
    distinct, distinct_ends, places = np.zeros(len(rows), np.int64), np.zeros(len(ends), np.int64), rows * 0
    begin, start, count = 0, 0, 0
    for user in range(len(ends)):
        for at in range(begin, ends[user]):
            if rows[at] == 0:
                continue
            place = start
            while place < count and distinct[place] != rows[at]:
                place += 1
            if place == count and count - start < most:
                distinct[count] = rows[at]
                count += 1
            places[at] = place - start + 1 if place < count else 0
        begin, start = ends[user], count
        distinct_ends[user] = count
    return distinct[:count], distinct_ends, places
