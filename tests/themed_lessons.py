"""Lessons of users who each stay within one theme, and what a channel makes of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from streamrec.domain.event_context import MAX_CONTEXT_KEYS
from streamrec.model.retrievers.retriever import OWN_ITEMS, Candidates, Lesson, Retrieval, Users

THEMES, PER_THEME, LENGTH = 4, 25, 10
ITEMS = THEMES * PER_THEME
ROWS = ITEMS + 1


def rows_of(theme):
    return np.arange(1 + theme * PER_THEME, 1 + (theme + 1) * PER_THEME)


def lessons(number, *, users=20, seed=0):
    """Return micro-batches of new users, each with a whole sequence of new events."""
    draw = np.random.default_rng(seed)
    for start in range(number):
        rows = [draw.choice(rows_of(user % THEMES), LENGTH, replace=False) for user in range(users)]
        yield Lesson(
            users=np.arange(start * users, (start + 1) * users),
            ends=LENGTH * np.arange(1, users + 1),
            rows=np.concatenate(rows),
            event_types=np.zeros(users * LENGTH, np.int64),
            times_ms=np.arange(users * LENGTH),
            new=np.arange(users * LENGTH),
            shares=np.ones(users * LENGTH),
            contexts=np.zeros((users * LENGTH, MAX_CONTEXT_KEYS), np.int64),
        )


def users_of(own):
    """Return users with these latest rows each, newest first; none for an empty list."""
    padded = np.zeros((len(own), OWN_ITEMS), np.int64)
    for place, rows in enumerate(own):
        padded[place, : len(rows)] = rows
    ends = np.cumsum([len(rows) for rows in own])
    rows = np.array([row for rows in own for row in reversed(rows)], np.int64)
    nothing = np.zeros(len(rows), np.int64)
    return Users(
        ends,
        rows,
        nothing,
        nothing,
        nothing,
        np.zeros(len(own), np.int64),
        np.zeros((len(own), MAX_CONTEXT_KEYS), np.int64),
        np.zeros((len(own), 1)),
        padded,
        10,
    )


def followed(retriever, teacher, rows=ROWS, *, everything=False):
    """Return the retriever of the next version."""
    version = type(retriever)()
    items = SimpleNamespace(size=rows)
    version.follow(retriever, items, teacher.changes(rows, everything=everything), in_place=False)
    return version


def best(retriever, own, n, rows=ROWS):
    """Return the best rows of a user, without the user's own."""
    items, users = SimpleNamespace(size=rows), users_of([own])
    candidates = Candidates(np.arange(1, rows), np.zeros(rows - 1, np.int64), np.array([0, rows - 1]))
    features = np.zeros((len(retriever.features), rows - 1), np.float32)
    retriever.describe(Retrieval(items, users, retriever.find(items, users), candidates, features))
    ranked = 1 + np.argsort(-features[0], kind="stable")
    return ranked[~np.isin(ranked, own)][:n]
