"""The channel of categories: what is popular and what is new in the categories of a user's sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.retriever import Candidates, Found, Items, Retrieval, Retriever, Users
from streamrec.model.retrievers.shelves import HALF_LIVES, SHELF_ROWS, Shelves, find_shelf, shelves_of
from streamrec.model.tables.neighbour_lists import DISTANCE_DECAY

CATEGORIES_OF = 4
"""Number of the strongest categories of a sequence whose popular and new items are candidates."""

INTEREST_DECAY = 0.95
"""Weight of an event relative to the one after it: about twenty events count, of several visits. `DISTANCE_DECAY`
describes what the session is about."""

_NO_SHARE = np.float32(np.exp(-4.0))
"""Lower bound on shares, of interest in a category and of its popularity: its logarithm is zero after scale and
shift."""

_LOG_SCALE, _LOG_SHIFT = np.float32(0.3), np.float32(1.2)
_TINY = np.float32(1e-6)
_STRENGTH = 0.6


class _Interests(NamedTuple):
    """The categories of users' sequences, latest first, concatenated; `ends` by user."""

    ends: np.ndarray
    codes: np.ndarray
    now: np.ndarray
    """Share of the sequence, weighted towards the latest events."""
    lasting: np.ndarray
    """The same for the whole sequence."""


class CategoryRetriever(Retriever):
    """Popular and new items of the user's strongest categories, from counts alone."""

    name = "category"
    features = (
        "same_category",
        "category_share",
        "category_interest",
        "popularity_in_category_1d",
        "popularity_in_category_7d",
    )
    prior: ClassVar[Mapping[str, float]] = {"category_interest": 1.0}

    def __init__(self) -> None:
        self._shelves: Shelves | None = None
        self._is_shelved: np.ndarray | None = None

    def shelves(self, items: Items) -> Shelves:
        """Return what is popular and what is new within each category, computed once per version."""
        if self._shelves is None:
            size = items.size
            self._shelves = shelves_of(items.category[:size], items.counts[:size], items.first_ms[:size])
        return self._shelves

    def is_shelved(self, items: Items) -> np.ndarray:
        """Return whether each row is popular or new within its category, `(size,)`."""
        if self._is_shelved is None:
            is_shelved = np.zeros(items.size, bool)
            is_shelved[self.shelves(items).rows] = True
            is_shelved[0] = False
            self._is_shelved = is_shelved
        return self._is_shelved

    def find(self, items: Items, users: Users) -> Found:
        """Return the shelves of the strongest categories of each user."""
        interests = _Interests(*_interests(users.ends, users.categories))
        return Found(*_of_strongest(self.shelves(items), interests), interests)

    def describe(self, retrieval: Retrieval) -> None:
        """Add the share of each candidate's category in the user's sequence, and its popularity within the category."""
        items, shelves, interests = retrieval.items, self.shelves(retrieval.items), retrieval.found.notes
        _describe(shelves, items.category, items.counts, interests, retrieval.candidates, retrieval.features)
        logs = retrieval.features[2:]
        np.log(logs, out=logs)
        logs *= _LOG_SCALE
        logs += _LOG_SHIFT

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain what is popular or new in a category of the user's latest items."""
        is_shelved = self.is_shelved(retrieval.items)[retrieval.candidates.rows[chosen]]
        return np.float32(_STRENGTH) * np.asarray(is_shelved & (self.leads(retrieval, chosen) > 0))

    def leads(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Return the user's latest item in the same category."""
        rows, users = retrieval.candidates.rows[chosen], retrieval.candidates.users[chosen]
        newest_own: np.ndarray = _newest_own(retrieval.items.category, rows, users, retrieval.users.own)
        return newest_own


@compiled
def _interests(ends: np.ndarray, categories: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the fields of :class:`_Interests`."""
    codes = np.zeros(len(categories), np.int64)
    now, lasting = np.zeros(len(categories)), np.zeros(len(categories))
    own_ends = np.zeros(len(ends), np.int64)
    begin, start = 0, 0
    for user in range(len(ends)):
        end = start
        weight_now, weight_lasting, total_now, total_lasting = 1.0, 1.0, 0.0, 0.0
        for event in range(ends[user] - 1, begin - 1, -1):
            at = start
            while at < end and codes[at] != categories[event]:
                at += 1
            if at == end:
                codes[at] = categories[event]
                end += 1
            now[at] += weight_now
            lasting[at] += weight_lasting
            total_now += weight_now
            total_lasting += weight_lasting
            weight_now *= DISTANCE_DECAY
            weight_lasting *= INTEREST_DECAY
        for at in range(start, end):
            now[at] /= total_now
            lasting[at] /= total_lasting
        begin, start = ends[user], end
        own_ends[user] = end
    return own_ends, codes[:start], now[:start], lasting[:start]


@compiled
def _of_strongest(shelves: Shelves, interests: _Interests) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows on the shelves of the strongest categories, ties by recency, and the end of each user's."""
    ends, codes, lasting = interests.ends, interests.codes, interests.lasting
    rows, found_ends = np.zeros(len(ends) * CATEGORIES_OF * SHELF_ROWS, np.int64), np.zeros(len(ends), np.int64)
    count, begin = 0, 0
    for user in range(len(ends)):
        below, marked = np.inf, 0
        while marked < CATEGORIES_OF:
            strongest = 0.0
            for at in range(begin, ends[user]):
                if codes[at] > 0 and lasting[at] < below:
                    strongest = max(strongest, lasting[at])
            if strongest == 0.0:
                break
            for at in range(begin, ends[user]):
                if codes[at] > 0 and lasting[at] == strongest and marked < CATEGORIES_OF:
                    shelf = find_shelf(shelves.keys, shelves.places, codes[at])
                    if shelf >= 0:
                        rows[count : count + SHELF_ROWS] = shelves.rows[shelf]
                        count += SHELF_ROWS
                    marked += 1
            below = strongest
        begin = ends[user]
        found_ends[user] = count
    return rows[:count], found_ends


@compiled
def _describe(
    shelves: Shelves,
    category: np.ndarray,
    counts: np.ndarray,
    interests: _Interests,
    candidates: Candidates,
    features: np.ndarray,
) -> None:
    """Write the features, the last three as arguments of logarithms."""
    ends, codes, now, lasting = interests.ends, interests.codes, interests.now, interests.lasting
    rows, starts = candidates.rows, candidates.starts
    begin = 0
    for user in range(len(ends)):
        knows = False
        for at in range(begin, ends[user]):
            knows |= codes[at] > 0
        for index in range(starts[user], starts[user + 1]):
            row = rows[index]
            features[2, index] = features[3, index] = features[4, index] = _NO_SHARE
            shelf = shelves.of_row[row] if row < len(shelves.of_row) else -1
            if shelf >= 0:
                for ranking in range(shelves.totals.shape[1]):
                    share = counts[row, HALF_LIVES[ranking]] / (shelves.totals[shelf, ranking] + _TINY)
                    features[3 + ranking, index] = max(share, _NO_SHARE)
            code = category[row]
            if code <= 0 or not knows:
                continue
            if code == codes[begin]:
                features[0, index] = 1.0
            for at in range(begin, ends[user]):
                if codes[at] == code:
                    features[1, index] = now[at]
                    features[2, index] = max(lasting[at], _NO_SHARE)
                    break
        begin = ends[user]


@compiled
def _newest_own(category: np.ndarray, rows: np.ndarray, owners: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return for each row its owner's latest item in the same category, 0 if none, `(n,)`."""
    newest = np.zeros(len(rows), np.int64)
    for index in range(len(rows)):
        code = category[rows[index]]
        for other in own[owners[index]]:
            if code > 0 and other > 0 and other != rows[index] and category[other] == code:
                newest[index] = other
                break
    return newest
