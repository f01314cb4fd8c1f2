"""Features of every candidate, whatever channel found it, compiled: popularity, repetitions, and the user's session.

Channels add their own: see :class:`~streamrec.model.retrievers.retriever.Retriever`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from streamrec.domain.event import EventType
from streamrec.model.compiled import compiled
from streamrec.model.network.config import ALL_EVENT_TYPES
from streamrec.model.retrievers.retriever import Candidates, Items, Users
from streamrec.model.tables.neighbour_lists import SESSION_GAP_MS
from streamrec.model.tables.popularity import decay

FEATURES = (
    "popularity_10m",
    "popularity_1h",
    "popularity_6h",
    "popularity_1d",
    "popularity_7d",
    "popularity_30d",
    "events",
    "age",
    "silence",
    "repeats",
    "times_seen",
    "repeat_recency",
    "repeat_age",
    "repeat_of_session",
    "sequence_length",
    "last_gap",
    "user_silence",
    "session_length",
    "repeat_of_last",
    "purchased",
    "in_cart",
    "favoured",
    "after_purchase",
    "after_cart",
    "after_favour",
)
"""Names, scaled to about 1."""

PRIOR: Mapping[str, float] = {"popularity_1h": 0.3, "popularity_6h": 0.3, "popularity_1d": 0.5}
"""Initial weights in the blend: recently popular items first."""

_KINDS = np.full(ALL_EVENT_TYPES, -1)
"""Which of the features from `purchased` on says that a user had an event of a signed kind on a candidate; -1 for none.
Negative kinds count from the end."""
_KINDS[EventType.PURCHASE], _KINDS[EventType.ADD_TO_CART] = 0, 1
_KINDS[[EventType.FAVOURITE, EventType.LIKE, EventType.SHARE, EventType.COMMENT, EventType.RATING]] = 2

COUNT_FLOOR = 0.02
"""Smaller counts are treated as this: no evidence rather than strong negative evidence."""

_LOGS, _COUNTS = slice(0, 9), slice(0, 7)
"""Logarithmic features: the loop writes their arguments, and all logarithms are computed at once."""

_COUNT_SCALE, _TIME_SCALE = np.float32(0.3), np.float32(0.15)


class _Counts(NamedTuple):
    """Counts of a version by row, and their decay by user until the time to recommend for."""

    counts: np.ndarray
    events: np.ndarray
    first_ms: np.ndarray
    last_ms: np.ndarray
    decays: np.ndarray


def describe(items: Items, users: Users, candidates: Candidates, features: np.ndarray) -> None:
    """Write the features of candidates, `(len(FEATURES), M)`, float32, which are zero before."""
    decays = decay((users.now_ms - items.reference_ms)[:, None]).astype(np.float32)
    _add_items(_Counts(items.counts, items.events, items.first_ms, items.last_ms, decays), users, candidates, features)
    logs = features[_LOGS]
    np.log(logs, out=logs)
    logs[_COUNTS] *= _COUNT_SCALE
    logs[_COUNTS.stop :] *= _TIME_SCALE
    _add_users(users, candidates, features)


@compiled
def _add_items(items: _Counts, users: Users, candidates: Candidates, features: np.ndarray) -> None:
    """Write popularity and age of each candidate, as arguments of logarithms."""
    for user in range(len(users.ends)):
        now_ms = users.now_ms[user]
        for index in range(candidates.starts[user], candidates.starts[user + 1]):
            row = candidates.rows[index]
            for half_life in range(items.counts.shape[1]):
                count = items.counts[row, half_life] * items.decays[user, half_life]
                features[half_life, index] = count + np.float32(COUNT_FLOOR)
            features[6, index] = 1.0 + items.events[row]
            features[7, index] = 1.0 + max(now_ms - items.first_ms[row], 0) / 60_000.0
            features[8, index] = 1.0 + max(now_ms - items.last_ms[row], 0) / 60_000.0


@compiled
def _add_users(users: Users, candidates: Candidates, features: np.ndarray) -> None:
    """Write the user's events on each candidate, and what is the same for all candidates of a user."""
    begin = 0
    for user in range(len(users.ends)):
        own = slice(begin, users.ends[user])
        rows, times_ms, event_types = users.rows[own], users.times_ms[own], users.event_types[own]
        begin, now_ms = users.ends[user], users.now_ms[user]
        found = slice(candidates.starts[user], candidates.starts[user + 1])
        part = features[:, found]
        _add_repeats(rows, times_ms, event_types, now_ms, candidates.rows[found], part)
        part[14, :] = np.log1p(len(rows)) * 0.3
        if len(rows):
            gap_ms = max(times_ms[-1] - times_ms[-2], 0) if len(rows) > 1 else 0
            part[15, :] = np.log1p(gap_ms / 60_000.0) * 0.15
            part[16, :] = _log_age(now_ms - times_ms[-1])
            part[17, :] = np.log1p(len(rows) - _session_begin(times_ms, now_ms)) * 0.3
            kind = _KINDS[event_types[-1]]
            if kind >= 0:
                part[22 + kind, :] = 1.0


@compiled
def _add_repeats(
    rows: np.ndarray,
    times_ms: np.ndarray,
    event_types: np.ndarray,
    now_ms: int,
    found: np.ndarray,
    features: np.ndarray,
) -> None:
    """Write count, recency and kinds of the user's events on each candidate, rows ascending."""
    session = _session_begin(times_ms, now_ms)
    for steps_back in range(len(rows)):
        event = len(rows) - 1 - steps_back
        index = np.searchsorted(found, rows[event])
        if index == len(found) or found[index] != rows[event]:
            continue
        if features[9, index] == 0.0:  # the latest event on it
            features[9, index] = 1.0
            features[11, index] = 1.0 / (1.0 + 0.3 * steps_back)
            features[12, index] = _log_age(now_ms - times_ms[event])
            features[13, index] = event >= session
            features[18, index] = steps_back == 0
        features[10, index] += 1.0
        kind = _KINDS[event_types[event]]
        if kind >= 0:
            features[19 + kind, index] = 1.0
    for index in range(len(found)):
        if features[9, index] > 0.0:
            features[10, index] = np.log(features[10, index])


@compiled
def _session_begin(times_ms: np.ndarray, now_ms: int) -> int:
    """Return the index of the current session's first event."""
    later_ms, begun = now_ms, len(times_ms)
    while begun > 0 and later_ms - times_ms[begun - 1] <= SESSION_GAP_MS:
        begun -= 1
        later_ms = times_ms[begun]
    return begun


@compiled
def _log_age(age_ms: int) -> float:
    logged: float = np.log1p(max(age_ms, 0) / 60_000.0) * 0.15
    return logged
