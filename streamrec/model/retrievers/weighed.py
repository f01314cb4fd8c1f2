"""Rows that a channel weighs by a user's own items, and what the blend learns of their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.retriever import Candidates, Found, Retrieval, Retriever

_LEAST = np.float32(1e-3)
_SCALE, _SHIFT = np.float32(0.2), np.float32(1.4)
"""A weight of about 0.001, the least that counts, is as good as none: its feature is zero."""


class Weighed(NamedTuple):
    """Distinct rows of each user, concatenated by user in any order.

    Attributes
    ----------
    ends
        End of each user's, `(B,)`.
    rows, weights
        The rows and their weights, above zero, `(n,)`.
    leads
        The user's item to which a row owes most of its weight, `(n,)`.
    """

    ends: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    leads: np.ndarray

    def strongest(self, most: int, of_last: np.ndarray | None = None) -> Found:
        """Return up to this many of the strongest rows of each user, ties by row; its notes are :class:`Notes`."""
        return Found(*_strongest(self.ends, self.rows, self.weights, most), Notes(self, of_last))


@dataclass(slots=True)
class Notes:
    """What describes and explains weighed rows.

    Attributes
    ----------
    weighed
        The rows.
    of_last
        The part of each weight from the last item, `(n,)`, if the channel knows it.
    """

    weighed: Weighed
    of_last: np.ndarray | None = None
    _places: np.ndarray | None = None

    def places(self, candidates: Candidates) -> np.ndarray:
        """Return the index of each row among its user's candidates, -1 if it is none, computed once, `(n,)`."""
        if self._places is None:
            self._places = places_among(candidates, self.weighed.ends, self.weighed.rows)
        return self._places

    def leads(self, candidates: Candidates, chosen: np.ndarray) -> np.ndarray:
        """Return the lead of each chosen candidate, 0 for none, `(len(chosen),)`."""
        places, leads = self.places(candidates), np.zeros(len(candidates.rows), np.int64)
        leads[places[places >= 0]] = self.weighed.leads[places >= 0]
        return np.asarray(leads[chosen])


class WeighedRetriever(Retriever):
    """A channel whose notes are :class:`Notes` and whose two features are the weight, and whether there is one.

    Attributes
    ----------
    strength
        How well it explains the rows that it weighs, 0 to 1.
    """

    strength: ClassVar[float]

    def describe(self, retrieval: Retrieval) -> None:
        """Add the weight of each candidate."""
        notes: Notes = retrieval.found.notes
        places = notes.places(retrieval.candidates)
        describe(retrieval.features[0], places, notes.weighed.weights)
        retrieval.features[1, places[places >= 0]] = 1.0

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain every row that has a weight."""
        return np.float32(self.strength) * np.asarray(retrieval.features[1, chosen] > 0)

    def leads(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Return the user's item that led to each."""
        notes: Notes = retrieval.found.notes
        return notes.leads(retrieval.candidates, chosen)


def places_among(candidates: Candidates, ends: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the index of each row, concatenated by user, among its user's candidates, -1 if it is none, `(n,)`."""
    places: np.ndarray = _places(ends, rows, candidates.rows, candidates.starts)
    return places


def describe(feature: np.ndarray, places: np.ndarray, weights: np.ndarray) -> None:
    """Write the logarithms of weights, `(n,)`, scaled to about 1, to a feature of candidates, zero before, `(M,)`.

    Parameters
    ----------
    places
        Index of the candidate with each weight, -1 if none, `(n,)`.
    """
    is_there = (places >= 0) & (weights > 0)
    feature[places[is_there]] = np.log(weights[is_there].astype(np.float32) + _LEAST) * _SCALE + _SHIFT


@compiled
def _strongest(ends: np.ndarray, rows: np.ndarray, weights: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each user's strongest rows, and the end of each user's."""
    strongest, own_ends = np.zeros(len(rows), np.int64), np.zeros(len(ends), np.int64)
    count, begin = 0, 0
    for user in range(len(ends)):
        own, of_own = rows[begin : ends[user]], weights[begin : ends[user]]
        begin = ends[user]
        least, left = -np.inf, 0
        if len(own) > most:
            least = np.sort(of_own)[len(own) - most]
            left = most - (of_own > least).sum()
        for at in range(len(own)):
            if of_own[at] > least:
                strongest[count] = own[at]
                count += 1
        if left:
            for row in np.sort(own[of_own == least])[:left]:
                strongest[count] = row
                count += 1
        own_ends[user] = count
    return strongest[:count], own_ends


@compiled
def _places(ends: np.ndarray, rows: np.ndarray, candidates: np.ndarray, starts: np.ndarray) -> np.ndarray:
    places = np.full(len(rows), -1)
    begin = 0
    for user in range(len(ends)):
        own = candidates[starts[user] : starts[user + 1]]
        for at in range(begin, ends[user]):
            place = np.searchsorted(own, rows[at])
            if place < len(own) and own[place] == rows[at]:
                places[at] = starts[user] + place
        begin = ends[user]
    return places
