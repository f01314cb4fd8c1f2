"""A session-based nearest-neighbour method with bounded memory.

STAN (Garg et al. 2019, "Sequence and Time Aware Neighborhood for Session-based Recommendations", arXiv 1905.07965) and
VSTAN (Ludewig et al. 2021, arXiv 1910.12781): past sessions are similar if they share items, weighted by recency and
rarity; their items are weighted by distance from the latest shared one, more after it than before, and by the age of
the session.

Shapes: B prefixes, M remembered events, N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamrec.evaluation.sequences import Sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """Settings of the neighbourhood.

    Parameters
    ----------
    events
        Maximum number of stored events; the oldest sessions are dropped.
    look_back
        Number of the latest events of a prefix to compare.
    postings
        Number of the latest occurrences of an item to consider.
    sessions
        Number of nearest sessions.
    reach
        Maximum distance from the latest shared item.
    step_decay
        Decay per step back in the prefix.
    reach_decay
        Decay per step from the shared item in the session.
    backward
        Weight of items before the shared item, relative to those after it.
    age_decay
        Decay of a session per time slice of age.
    """

    events: int = 500_000
    look_back: int = 8
    postings: int = 400
    sessions: int = 100
    reach: int = 8
    step_decay: float = 0.7
    reach_decay: float = 0.8
    backward: float = 0.5
    age_decay: float = 0.9


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of some items for each prefix.

    Attributes
    ----------
    keys
        `prefix * N + row`, ascending and distinct.
    values
        Above zero, the same length.
    """

    keys: np.ndarray
    values: np.ndarray


class SessionNeighbours:
    """Stores sessions and finds those similar to a prefix."""

    def __init__(self, neighbourhood: Neighbourhood) -> None:
        self.neighbourhood = neighbourhood
        self._sessions = Sequences(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.float32))
        self._slices = np.zeros(0, np.int64)

    def add(self, sequences: Sequences, time_slice: int) -> None:
        """Add the sessions of a time slice, oldest first."""
        sessions = self._sessions.joined(sequences)
        slices = np.concatenate([self._slices, np.full(len(sequences), time_slice)])
        keep = np.flatnonzero(sessions.starts[-1] - sessions.starts[:-1] <= self.neighbourhood.events)
        self._sessions, self._slices = sessions.take(keep), slices[keep]
        rows = self._sessions.rows
        newest_first = np.arange(len(rows))[::-1]
        self._postings = newest_first[np.argsort(rows[newest_first], kind="stable")]
        self._begins = np.searchsorted(rows[self._postings], np.arange(int(rows.max(initial=0)) + 2))
        self._session_of = self._sessions.sequence_of_event()
        lengths = np.maximum(self._sessions.lengths, 1)
        ages = self._slices.max(initial=0) - self._slices
        self._session_weights = self.neighbourhood.age_decay**ages / np.sqrt(lengths)

    def weigh(self, prefixes: Sequences, items: int) -> Weights:
        """Return the weights of items in sessions similar to each prefix, summing to 1.

        Parameters
        ----------
        items
            N, the number of rows.
        """
        prefix, session, shared, near = self._nearest(prefixes)
        settings, starts = self.neighbourhood, self._sessions.starts
        begin = np.maximum(starts[session], shared - settings.reach)
        lengths = np.minimum(starts[session + 1], shared + settings.reach + 1) - begin
        at = _ranges(begin, lengths)
        distance = at - np.repeat(shared, lengths)
        weight = np.repeat(near, lengths) * settings.reach_decay ** (np.abs(distance) - 1.0)
        weight = weight * np.where(distance < 0, settings.backward, 1.0)
        other = distance != 0
        keys = (np.repeat(prefix, lengths) * items + self._sessions.rows[at])[other]
        found, values, _ = _summed(keys, weight[other])
        totals = np.bincount(found // items, values, len(prefixes))
        return Weights(found, (values / totals[found // items]).astype(np.float32))

    def _nearest(self, prefixes: Sequences) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return prefix, session, latest shared event and weight of the nearest sessions."""
        settings = self.neighbourhood
        ends = prefixes.starts[1:]
        lengths = np.minimum(prefixes.lengths, settings.look_back)
        steps_back = _ranges(np.zeros(len(ends), np.int64), lengths)  # newest first
        prefix = np.repeat(np.arange(len(ends)), lengths)
        rows = prefixes.rows[ends[prefix] - 1 - steps_back]
        known = rows < len(self._begins) - 1
        prefix, rows, steps_back = prefix[known], rows[known], steps_back[known]
        counts = self._begins[rows + 1] - self._begins[rows]
        rarity = np.log1p(len(self._sessions) / np.maximum(counts, 1))
        looked = np.minimum(counts, settings.postings)
        event = self._postings[_ranges(self._begins[rows], looked)]
        session = self._session_of[event]
        weight = np.repeat(settings.step_decay**steps_back * rarity, looked) * self._session_weights[session]
        sessions = max(len(self._sessions), 1)
        keys, near, first = _summed(np.repeat(prefix, looked) * sessions + session, weight)
        prefix, session = np.divmod(keys, sessions)
        order = np.lexsort((-near, prefix))
        place = np.arange(len(order)) - np.searchsorted(prefix, prefix)
        chosen = order[place < settings.sessions]
        return prefix[chosen], session[chosen], event[first[chosen]], near[chosen]


def _ranges(begin: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return concatenated ranges `begin, begin + 1, ...` of each length."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    out: np.ndarray = np.arange(total) + np.repeat(begin - (ends - lengths), lengths)
    return out


def _summed(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distinct keys, ascending, the sum of each one's values, and the index of its first occurrence."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    sums = np.add.reduceat(values[order], begins) if len(begins) else np.zeros(0)
    return ordered[begins], sums, order[begins]
