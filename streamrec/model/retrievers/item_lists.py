"""Lists of items by item, and the rows that they give for users' own items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from streamrec.model.compiled import compiled
from streamrec.model.retrievers.retriever import Users
from streamrec.model.retrievers.weighed import Weighed
from streamrec.model.tables.neighbour_lists import SESSION_GAP_MS
from streamrec.model.tables.vocabulary import grown
from streamrec.model.tensors import Arrays


class Fading(NamedTuple):
    """How much less the earlier items of a user count.

    Attributes
    ----------
    items
        Number of the latest distinct items that count.
    step, other_session
        Factors for each event since, and for each pause of half an hour.
    """

    items: int
    step: float
    other_session: float


class ItemLists(NamedTuple):
    """A list of other items for each item.

    Attributes
    ----------
    others, weights
        By row: other rows, best first, 0 for padding, and their weights, `(capacity, N)`.
    """

    others: np.ndarray
    weights: np.ndarray

    @classmethod
    def empty(cls) -> ItemLists:
        """Return the lists of no item."""
        return cls(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))

    def followed(self, name: str, changes: Mapping[str, np.ndarray], size: int, *, in_place: bool) -> ItemLists:
        """Return the lists of the next version, with those that :func:`published` named.

        Parameters
        ----------
        size
            Number of rows of that version.
        in_place
            Whether these lists may be modified.
        """
        rows, ends = changes[f"{name}.rows"], changes[f"{name}.ends"]
        lengths = np.diff(ends, prepend=0)
        wider = max(0, int(lengths.max(initial=0)) - self.others.shape[1])
        larger = [np.pad(grown(table, size), ((0, 0), (0, wider))) if wider else grown(table, size) for table in self]
        if not in_place:
            larger = [table.copy() if table is own else table for table, own in zip(larger, self, strict=True)]
        lists = ItemLists(*larger)
        of = np.repeat(np.arange(len(rows)), lengths)
        places = np.arange(len(of)) - (ends - lengths)[of]
        for table, field in zip(lists, ItemLists._fields, strict=True):
            table[rows] = 0
            table[rows[of], places] = changes[f"{name}.{field}"]
        return lists

    def gathered(self, users: Users, size: int, fading: Fading) -> tuple[Weighed, np.ndarray]:
        """Return the rows below `size` on the lists of users' items, and the part of each weight from the last one."""
        *near, of_last = _gather(self, users, size, fading)
        return Weighed(*near), of_last


def published(name: str, owners: np.ndarray, lengths: np.ndarray, others: np.ndarray, weights: np.ndarray) -> Arrays:
    """Return lists as arrays for readers: those of some rows, concatenated, with their lengths."""
    return {
        f"{name}.rows": owners,
        f"{name}.ends": np.cumsum(lengths, dtype=np.int64),
        f"{name}.others": others,
        f"{name}.weights": weights.astype(np.float32),
    }


class _Growing(NamedTuple):
    """The rows of users while they are gathered.

    Attributes
    ----------
    near
        The rows so far.
    best
        The highest weight of each in the list of one item, `(n,)`.
    at_row
        By row: 1 + its index among the rows of the current user, 0 if it is none, `(size,)`.
    """

    near: Weighed
    best: np.ndarray
    at_row: np.ndarray


@compiled
def _gather(lists: ItemLists, users: Users, size: int, fading: Fading) -> tuple[np.ndarray, ...]:
    """Return the fields of :class:`Weighed`, and the part of each weight from the last item, `(n,)`."""
    room, begin = 0, 0
    for end in users.ends:
        room += min(end - begin, fading.items) * lists.others.shape[1]
        begin = end
    near = Weighed(
        np.zeros(len(users.ends), np.int64), np.zeros(room, np.int64), np.zeros(room), np.zeros(room, np.int64)
    )
    best, of_last = np.zeros(room, np.float32), np.zeros(room)
    at_row = np.zeros(size, np.int32)  # 1 + index of a neighbour, cleared between users
    begin, start = 0, 0
    for user in range(len(users.ends)):
        end = start
        done = np.zeros(fading.items, np.int64)
        found, weight, later_ms = 0, 1.0, users.now_ms[user]
        for event in range(users.ends[user] - 1, begin - 1, -1):
            row, time_ms = users.rows[event], users.times_ms[event]
            if later_ms - time_ms > SESSION_GAP_MS:
                weight *= fading.other_session
            later_ms = time_ms
            if 0 < row < len(lists.others) and not _holds(done, found, row):
                end = _add(_Growing(near, best, at_row), end, row, lists, weight)
                if found == 0:
                    of_last[start:end] = best[start:end]
                done[found] = row
                found += 1
                if found == fading.items:
                    break
            weight *= fading.step
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
def _add(growing: _Growing, end: int, row: int, lists: ItemLists, weight: float) -> int:
    """Add the list of one item, and return the end of the user's rows."""
    near, best, at_row = growing
    for column in range(lists.others.shape[1]):
        other, share = lists.others[row, column], lists.weights[row, column]
        if other <= 0 or other >= len(at_row):
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
