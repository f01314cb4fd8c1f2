"""The channel of titles: items whose titles share words with those of a user's latest items.

Rare words count more (inverse document frequency). Titles are cut to a few words, which are hashed: see
:mod:`streamrec.model.tables.content`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.likeness import write_likeness
from streamrec.model.retrievers.retriever import OWN_ITEMS, Candidates, Found, Items, Retrieval, Retriever, Users
from streamrec.model.tables.content import BUCKETS

WORDS_OF = 2
"""Number of the latest items whose words lead to candidates."""

ROWS_PER_WORD = 4
"""Number of the most popular items with a word that are candidates."""

HALF_LIFE = 4
"""Half-life of their popularity: a week."""

_BITS = (np.arange(1 << OWN_ITEMS)[:, None] >> np.arange(OWN_ITEMS) & 1).astype(np.float32)
"""The bits of each number, lowest first."""

_STRENGTH = 0.7
_LEAST = np.float32(0.3)
"""Least similarity that explains an item."""


class _Index(NamedTuple):
    """Words of a version.

    Attributes
    ----------
    weights
        Squared inverse document frequency of each word, `(BUCKETS,)`, float32.
    inverse_norms
        Inverse length of each item's vector of words, 1 for none, `(size,)`, float32.
    rows
        The most popular rows with each word, 0 for padding, `(BUCKETS, ROWS_PER_WORD)`.
    """

    weights: np.ndarray
    inverse_norms: np.ndarray
    rows: np.ndarray


class TitleRetriever(Retriever):
    """Cosine similarity of titles as bags of words."""

    name = "title"
    features = "title_like_last", "title_like_nearest", "title_like_recent"

    def __init__(self) -> None:
        self._index: _Index | None = None

    def index(self, items: Items) -> _Index:
        """Return the words of the version, computed once."""
        if self._index is None:
            titles = items.words[: items.size]
            idf = np.log((items.size + 1.0) / (_numbers(titles) + 1.0))
            weights = (idf * idf).astype(np.float32)
            self._index = _Index(weights, *_indexed(titles, weights, items.counts))
        return self._index

    def find(self, items: Items, users: Users) -> Found:
        """Return popular items that share words with the user's latest items."""
        return Found(*_found(self.index(items), items.words, users.own))

    def describe(self, retrieval: Retrieval) -> None:
        """Add the similarity of each candidate to the user's last, nearest and recent other items."""
        items = retrieval.items
        index = self.index(items)
        cosines = _cosines(index, items.words, retrieval.users.own, retrieval.candidates)
        write_likeness(cosines, retrieval.users.own, retrieval.candidates, retrieval.features)

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain items that are much like one of the user's."""
        nearest = retrieval.features[1, chosen]
        return np.where(nearest >= _LEAST, np.float32(_STRENGTH) * np.minimum(nearest, 1.0), np.float32(0.0))

    def leads(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Return the user's most similar item."""
        rows, users = retrieval.candidates.rows[chosen], retrieval.candidates.users[chosen]
        items = retrieval.items
        most_similar: np.ndarray = _most_similar(self.index(items), items.words, rows, users, retrieval.users.own)
        return most_similar


@compiled
def _numbers(titles: np.ndarray) -> np.ndarray:
    """Return the number of items with each word, `(BUCKETS,)`."""
    numbers = np.zeros(BUCKETS, np.int64)
    for row in range(len(titles)):
        for word in titles[row]:
            if word == 0:
                break
            numbers[word] += 1
    return numbers


@compiled
def _indexed(titles: np.ndarray, weights: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse length of each row, and the most popular rows with each word, best first, ties by row."""
    inverse_norms = np.ones(len(titles), np.float32)
    rows = np.zeros((len(weights), ROWS_PER_WORD), np.int32)
    best = np.zeros((len(weights), ROWS_PER_WORD), np.float32)
    for row in range(1, len(titles)):
        total = np.float32(0.0)
        value = counts[row, HALF_LIFE]
        for word in titles[row]:
            if word == 0:
                break
            total += weights[word]
            at = ROWS_PER_WORD - 1
            if value <= best[word, at]:
                continue
            while at > 0 and value > best[word, at - 1]:
                best[word, at], rows[word, at] = best[word, at - 1], rows[word, at - 1]
                at -= 1
            best[word, at], rows[word, at] = value, row
        if total > 0:
            inverse_norms[row] = 1.0 / np.sqrt(total)
    return inverse_norms, rows


@compiled
def _found(index: _Index, titles: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the most popular rows with the words of each user's latest items, and the end of each user's."""
    rows = np.zeros(len(own) * WORDS_OF * titles.shape[1] * ROWS_PER_WORD, np.int64)
    ends, count = np.zeros(len(own), np.int64), 0
    for user in range(len(own)):
        for other in own[user, :WORDS_OF]:
            for word in titles[other]:
                if word == 0:
                    break
                for row in index.rows[word]:
                    if row == 0:
                        break
                    rows[count] = row
                    count += 1
        ends[user] = count
    return rows[:count], ends


@compiled
def _cosines(index: _Index, titles: np.ndarray, own: np.ndarray, candidates: Candidates) -> np.ndarray:
    """Return the cosine of each candidate with each own item of its user, `(M, OWN_ITEMS)`."""
    rows, starts, width = candidates.rows, candidates.starts, own.shape[1]
    cosines = np.zeros((len(rows), width), np.float32)
    own_norms = np.zeros(width, np.float32)
    owners = np.zeros(len(index.weights), np.uint8)  # a bit for each own item with a word, cleared between users
    for user in range(len(own)):
        _mark(owners, titles, own[user])
        for place in range(width):
            own_norms[place] = index.inverse_norms[own[user, place]]
        for at in range(starts[user], starts[user + 1]):
            if _add_products(index, titles[rows[at]], owners, cosines[at]):
                for place in range(width):
                    cosines[at, place] *= index.inverse_norms[rows[at]] * own_norms[place]
        for row in own[user]:
            for word in titles[row]:
                owners[word] = 0
    return cosines


@compiled
def _add_products(index: _Index, words: np.ndarray, owners: np.ndarray, products: np.ndarray) -> bool:
    """Add the products of a title with each own item, and return whether they share any word."""
    shares = False
    for word in words:
        bits = owners[word]
        if bits:
            shares = True
            for place in range(len(products)):
                products[place] += index.weights[word] * _BITS[bits, place]
    return shares


@compiled
def _mark(owners: np.ndarray, titles: np.ndarray, own: np.ndarray) -> None:
    for place in range(len(own)):
        for word in titles[own[place]]:
            if word == 0:
                break
            owners[word] |= np.uint8(1 << place)


@compiled
def _most_similar(
    index: _Index, titles: np.ndarray, rows: np.ndarray, owners: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Return for each row its owner's other item with the highest cosine, 0 if it shares no word, `(n,)`."""
    found = np.zeros(len(rows), np.int64)
    for at in range(len(rows)):
        best = np.float32(0.0)
        for other in own[owners[at]]:
            if other == 0 or other == rows[at]:
                continue
            product = np.float32(0.0)
            for word in titles[rows[at]]:
                for own_word in titles[other]:
                    if word == own_word and word > 0:
                        product += index.weights[word]
            product *= index.inverse_norms[other]
            if product > best:
                best, found[at] = product, other
    return found
