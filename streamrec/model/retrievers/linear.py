"""The channel of linear regression: the items that follow from all of a user's items, by what users share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from streamrec.model.retrievers.item_lists import Fading, ItemLists, published
from streamrec.model.retrievers.retriever import Found, Items, Lesson, Teacher, Users
from streamrec.model.retrievers.weighed import WeighedRetriever
from streamrec.model.tables.item_regression import LOOK_BACK, ItemRegression
from streamrec.model.tensors import Arrays

SOLVED_SHARE = 0.5
"""Items whose weights are solved for, per new event."""

TOUCHED = 4
"""Number of a user's latest items that are solved for again because of a new one."""

MAX_CANDIDATES = 128
"""Maximum number of candidates per user."""

_FADING = Fading(LOOK_BACK, 0.95, 1.0)


class LinearTeacher:
    """Counts the users that items share, and solves for the weights of a few items at a time."""

    def __init__(self) -> None:
        self.regression = ItemRegression()
        self._waiting: dict[int, None] = {}
        """Rows to solve for, in order."""
        self._changed: set[int] = set()
        """Rows whose weights changed since the last version."""

    def learn(self, lesson: Lesson) -> None:
        """Count each user's first event on an item, and solve for the items that have waited longest."""
        users = np.searchsorted(lesson.ends, lesson.new, side="right")
        begins = np.concatenate([np.zeros(1, np.int64), lesson.ends])[users]
        newest_ms = 0
        for index, begin in zip(lesson.new.tolist(), begins.tolist(), strict=True):
            row, time_ms = int(lesson.rows[index]), int(lesson.times_ms[index])
            before = lesson.rows[begin:index]
            if not row or row in before:
                continue
            distinct = [each for each in dict.fromkeys(before[::-1].tolist()) if each][:LOOK_BACK]
            self.regression.add(np.array(distinct, np.int64), row, time_ms)
            self._waiting.update(dict.fromkeys([row, *distinct[:TOUCHED]]))
            newest_ms = max(newest_ms, time_ms)
        rows = list(self._waiting)[: math.ceil(SOLVED_SHARE * len(lesson.new)) if newest_ms else 0]
        self.regression.solve(np.array(rows, np.int64), newest_ms)
        self._changed.update(rows)
        for row in rows:
            del self._waiting[row]

    def forget(self, row: int) -> None:
        """Remove a row from all weights."""
        self._changed.update([row, *self.regression.clear(row)])
        self._waiting.pop(row, None)

    def changes(self, rows: int, *, everything: bool) -> Arrays:
        """Return the weights of rows that were solved for."""
        owners = np.arange(1, rows) if everything else np.array(sorted(self._changed), np.int64)
        self._changed = set()
        others, weights, _ = (table[owners] for table in self.regression.solved.grown(rows))
        is_there = weights > 0
        return published("linear", owners, is_there.sum(1), others[is_there], weights[is_there])

    def state(self) -> Arrays:
        """Return counts, weights, and the rows to solve for."""
        return {**self.regression.state(), "waiting": np.array(list(self._waiting), np.int64)}

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        if state:
            self.regression.load(state)
            self._waiting = dict.fromkeys(state["waiting"].tolist())


class LinearRetriever(WeighedRetriever):
    """The items that a linear regression on the user's items predicts.

    Attributes
    ----------
    lists
        Weights of each item for others.
    """

    name = "linear"
    strength = 0.85
    features = "linear", "is_linear"
    prior: ClassVar[Mapping[str, float]] = {"linear": 0.5}

    def __init__(self) -> None:
        self.lists = ItemLists.empty()

    @classmethod
    def teacher(cls, _seed: int, /) -> Teacher:
        """Return a regression."""
        return LinearTeacher()

    def follow(self, earlier: Self, items: Items, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        """Take over the weights of the earlier version, and replace those of the changed rows."""
        self.lists = earlier.lists.followed("linear", changes, items.size, in_place=in_place)

    def find(self, items: Items, users: Users) -> Found:
        """Return the items with the highest predictions."""
        near, _ = self.lists.gathered(users, items.size, _FADING)
        return near.strongest(MAX_CANDIDATES)
