"""The channel of co-visitation: the items that follow a user's latest items in other users' sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.retriever import OWN_ITEMS, Found, Items, Lesson, Retrieval, Retriever, Teacher, Users
from streamrec.model.retrievers.weighed import Weighed, describe
from streamrec.model.tables.covisitation import LOOK_BACK, Covisitation
from streamrec.model.tables.neighbour_lists import DISTANCE_DECAY, OTHER_SESSION_WEIGHT, SESSION_GAP_MS
from streamrec.model.tables.vocabulary import grown
from streamrec.model.tensors import Arrays

PUBLISHED_NEIGHBOURS = 32
"""Maximum number of neighbours of an item in a version."""

NEIGHBOURS_OF = OWN_ITEMS
"""Number of the latest distinct items whose neighbours are candidates."""

MAX_CANDIDATES = 128
"""Maximum number of candidates per user."""

_STRENGTH = 1.0


class _Growing(NamedTuple):
    """The neighbours of users while they are gathered.

    Attributes
    ----------
    near
        The neighbours so far.
    best
        The highest share of each in the list of one item, `(n,)`.
    at_row
        By row: 1 + the index of a neighbour of the current user, 0 if it is none, `(size,)`.
    """

    near: Weighed
    best: np.ndarray
    at_row: np.ndarray


class NeighbourTeacher:
    """Counts pairs of items in users' sequences."""

    def __init__(self) -> None:
        self.pairs = Covisitation()
        self._changed: set[int] = set()
        """Rows whose neighbours changed since the last version."""

    def learn(self, lesson: Lesson) -> None:
        """Pair each new event with the ones before it."""
        users = np.searchsorted(lesson.ends, lesson.new, side="right")
        begins = np.concatenate([np.zeros(1, np.int64), lesson.ends])[users]
        for index, begin, share in zip(lesson.new.tolist(), begins.tolist(), lesson.shares.tolist(), strict=True):
            first = max(begin, index - LOOK_BACK)
            before = zip(lesson.rows[first:index].tolist(), lesson.times_ms[first:index].tolist(), strict=True)
            row, time_ms = int(lesson.rows[index]), int(lesson.times_ms[index])
            self._changed.update(self.pairs.add([each for each in before if each[0]], row, time_ms, share))

    def forget(self, row: int) -> None:
        """Remove a row from all lists."""
        self._changed.update(self.pairs.clear(row))
        self._changed.add(row)

    def changes(self, rows: int, *, everything: bool) -> Arrays:
        """Return the strongest neighbours of changed rows; weights sum to 1 by row."""
        owners = np.arange(1, rows) if everything else np.array(sorted(self._changed), np.int64)
        self._changed = set()
        lengths, others, weights = self.pairs.strongest(owners, PUBLISHED_NEIGHBOURS)
        of = np.repeat(np.arange(len(owners)), lengths)
        # only the ratios between an item's neighbours matter
        totals = np.bincount(of, weights, minlength=len(owners))
        totals[totals == 0] = 1.0  # after years without events
        return {
            "neighbours.rows": owners,
            "neighbours.ends": np.cumsum(lengths, dtype=np.int64),
            "neighbours.others": others,
            "neighbours.weights": (weights / totals[of]).astype(np.float32),
        }

    def state(self) -> Arrays:
        """Return all pairs."""
        return self.pairs.state()

    def load(self, state: Arrays) -> None:
        """Restore all pairs."""
        if state:
            self.pairs.load(state)


class NeighbourRetriever(Retriever):
    """The neighbours of the user's latest items.

    Attributes
    ----------
    neighbours, shares
        By row: neighbour rows, best first, 0 for padding, and their weights, which sum to 1, `(capacity, N)`.
    """

    name = "neighbour"
    features = "neighbour", "neighbour_of_last", "is_neighbour"
    prior: ClassVar[Mapping[str, float]] = {"neighbour": 1.0, "is_neighbour": 0.5}

    def __init__(self) -> None:
        self.neighbours, self.shares = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)

    @classmethod
    def teacher(cls, _seed: int, /) -> Teacher:
        """Return a counter of pairs."""
        return NeighbourTeacher()

    def follow(self, earlier: Self, items: Items, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        """Take over the lists of the earlier version, and replace those of the changed rows."""
        rows, ends = changes["neighbours.rows"], changes["neighbours.ends"]
        lengths = np.diff(ends, prepend=0)
        wider = max(0, int(lengths.max(initial=0)) - earlier.neighbours.shape[1])
        for name in ("neighbours", "shares"):
            table = getattr(earlier, name)
            larger = np.pad(grown(table, items.size), ((0, 0), (0, wider))) if wider else grown(table, items.size)
            setattr(self, name, larger if in_place or larger is not table else table.copy())
        self.neighbours[rows], self.shares[rows] = 0, 0.0
        of = np.repeat(np.arange(len(rows)), lengths)
        places = np.arange(len(of)) - (ends - lengths)[of]
        weights = changes["neighbours.weights"].astype(np.float32)
        sums = np.bincount(of, weights, len(rows))
        sums[sums == 0.0] = 1.0  # weights may decay to zero
        self.neighbours[rows[of], places] = changes["neighbours.others"]
        self.shares[rows[of], places] = weights / sums[of]

    def find(self, items: Items, users: Users) -> Found:
        """Return the strongest neighbours of each user's latest items."""
        *near, of_last = _gather(self.neighbours, self.shares, users, items.size)
        found = Weighed(*near).strongest(MAX_CANDIDATES)
        return found._replace(notes=(found.notes, of_last))

    def describe(self, retrieval: Retrieval) -> None:
        """Add the weight of each neighbour, and the part of it from the last item."""
        near, of_last = retrieval.found.notes
        places = near.places(retrieval.candidates)
        describe(retrieval.features[0], places, near.weights)
        describe(retrieval.features[1], places, of_last)
        retrieval.features[2, places[places >= 0]] = 1.0

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Explain every neighbour."""
        return np.float32(_STRENGTH) * np.asarray(retrieval.features[2, chosen] > 0)

    def leads(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray:
        """Return the user's item with the candidate as its strongest neighbour."""
        near: Weighed = retrieval.found.notes[0]
        return near.leads_to(retrieval.candidates, chosen)


@compiled
def _gather(neighbours: np.ndarray, shares: np.ndarray, users: Users, size: int) -> tuple[np.ndarray, ...]:
    """Return the fields of :class:`Weighed`, and the part of each weight from the last item, `(n,)`."""
    room, begin = 0, 0
    for end in users.ends:
        room += min(end - begin, NEIGHBOURS_OF) * neighbours.shape[1]
        begin = end
    near = Weighed(
        np.zeros(len(users.ends), np.int64), np.zeros(room, np.int64), np.zeros(room), np.zeros(room, np.int64)
    )
    best, of_last = np.zeros(room, np.float32), np.zeros(room)
    at_row = np.zeros(size, np.int32)  # 1 + index of a neighbour, cleared between users
    begin, start = 0, 0
    for user in range(len(users.ends)):
        end = start
        done = np.zeros(NEIGHBOURS_OF, np.int64)
        found, weight, later_ms = 0, 1.0, users.now_ms[user]
        for event in range(users.ends[user] - 1, begin - 1, -1):
            row, time_ms = users.rows[event], users.times_ms[event]
            if later_ms - time_ms > SESSION_GAP_MS:
                weight *= OTHER_SESSION_WEIGHT
            later_ms = time_ms
            if 0 < row < len(neighbours) and not _holds(done, found, row):
                end = _add(_Growing(near, best, at_row), end, row, neighbours[row], shares[row], weight)
                if found == 0:
                    of_last[start:end] = best[start:end]
                done[found] = row
                found += 1
                if found == NEIGHBOURS_OF:
                    break
            weight *= DISTANCE_DECAY
        for at in range(start, end):
            at_row[near.rows[at]] = 0
        begin, start = users.ends[user], end
        near.ends[user] = end
    return near.ends, near.rows[:start], near.weights[:start], near.leads[:start], of_last[:start]


@compiled
def _holds(values: np.ndarray, count: int, value: int) -> bool:
    at = 0
    while at < count and values[at] != value:
        at += 1
    return at < count


@compiled
def _add(growing: _Growing, end: int, row: int, others: np.ndarray, shares: np.ndarray, weight: float) -> int:
    """Add the neighbours of one item, and return the end of the user's neighbours."""
    near, best, at_row = growing
    for column in range(len(others)):
        other, share = others[column], shares[column]
        if other == 0 or other >= len(at_row):
            continue
        at = at_row[other] - 1
        if at < 0:
            at, end = end, end + 1
            at_row[other] = end
            near.rows[at] = other
        near.weights[at] += weight * share
        if share >= best[at]:
            best[at], near.leads[at] = share, row
    return end
