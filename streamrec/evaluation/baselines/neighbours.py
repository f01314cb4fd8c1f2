"""Nearest sessions, weighted by position and recency (VSTAN), on a stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrec.domain.summary import SESSION_GAP_MS
from streamrec.evaluation.baselines.baseline import UNKNOWN, Histories, place_of
from streamrec.evaluation.baselines.popularity import DecayedCounts

SESSIONS = 200_000
"""Number of the latest sessions to keep."""

SESSION_ITEMS = 50
"""Maximum number of items per session; later ones are dropped."""

SESSIONS_OF_ITEM = 500
"""Number of the latest sessions with an item to compare."""

ASKED_ITEMS = 10
"""Number of a user's latest distinct items that form the current session."""

NEIGHBOURS = 300
POSITION_DECAY = 0.5
"""Decay of the user's items per step back."""

DISTANCE_STEPS = 3.0
"""Distance in steps from the shared item at which an item's weight is 1/e."""

NEGLIGIBLE = 1e-9
"""Maximum contribution of popularity, a tie-breaker."""

DAY_MS = 86_400_000.0
HALF_LIVES_MS = np.array([DAY_MS / 4, 7 * DAY_MS])
"""Half-lives of a session. The better one is chosen in hindsight, as for popularity."""


class SessionNeighbours:
    """Ranks items by their frequency in the sessions most similar to the user's latest items.

    A stored session is weighted by the shared items (more for newer and rarer ones), its length and its age; an item in
    it by its distance to the latest shared item, and by its rarity. A user's own earlier sessions are treated like
    others. Items of no neighbour are ranked by popularity, as are all items for a user without events.

    Parameters
    ----------
    hide_seen, sequence_length
        As of :class:`~streamrec.evaluation.baselines.popularity.RecentPopularity`.

    References
    ----------
    Ludewig, Mauro, Latifi and Jannach, "Empirical analysis of session-based recommendation algorithms", User Modeling
    and User-Adapted Interaction, 2020 (VSTAN); Garg, Gupta, Malhotra, Vig and Shroff, "Sequence and time aware
    neighborhood for session-based recommendations: STAN", SIGIR 2019.
    """

    names: Sequence[str] = tuple(f"neighbours_{half_life_ms / 3_600_000:g}h" for half_life_ms in HALF_LIVES_MS)

    def __init__(self, *, hide_seen: bool, sequence_length: int) -> None:
        self._histories = Histories(hide_seen=hide_seen, sequence_length=sequence_length)
        self._items = np.zeros((SESSIONS, SESSION_ITEMS), np.int32)
        """Items of session n at `n % SESSIONS`: row + 1, oldest first, 0 for padding."""
        self._lengths = np.zeros(SESSIONS, np.int64)
        self._last_ms = np.zeros(SESSIONS, np.int64)
        self._next = 0
        self._open: dict[str, int] = {}
        """Index of each user's latest session."""
        self._postings = np.zeros((1_024, SESSIONS_OF_ITEM), np.int64)
        """Ring buffer of the latest sessions with an item."""
        self._posted = np.zeros(1_024, np.int64)
        """Total number of sessions with an item."""
        self._popularity = DecayedCounts(np.array([DAY_MS / 4]))
        self._now_ms = 0

    def ranks(self, user_id: str, item_id: str) -> np.ndarray:
        """Return the rank of an item in the user's list for each half-life of a session."""
        row = self._histories.row_of.get(item_id)
        hidden = self._histories.hidden(user_id)
        if row is None or row in hidden:
            return np.full(len(HALF_LIVES_MS), UNKNOWN)
        return np.array([place_of(row, scores, hidden) for scores in self._scores(user_id)])

    def learn_one(self, user_id: str, item_id: str, event_time_ms: int) -> None:
        """Add an event to the user's session, or start a new one."""
        row = self._histories.learn_one(user_id, item_id)
        if row == len(self._posted):
            self._postings = np.pad(self._postings, ((0, row), (0, 0)))
            self._posted = np.pad(self._posted, (0, row))
        self._popularity.add(row, event_time_ms)
        self._now_ms = max(self._now_ms, event_time_ms)
        number = self._session(user_id, event_time_ms)
        slot = number % SESSIONS
        self._last_ms[slot] = event_time_ms
        length = self._lengths[slot]
        if length == SESSION_ITEMS or row + 1 in self._items[slot, :length]:
            return
        self._items[slot, length] = row + 1
        self._lengths[slot] = length + 1
        self._postings[row, self._posted[row] % SESSIONS_OF_ITEM] = number
        self._posted[row] += 1

    def _session(self, user_id: str, event_time_ms: int) -> int:
        """Return the index of the session that an event belongs to."""
        number = self._open.get(user_id, -1)
        is_kept = number >= max(0, self._next - SESSIONS)
        if is_kept and event_time_ms - self._last_ms[number % SESSIONS] <= SESSION_GAP_MS:
            return number
        number = self._open[user_id] = self._next
        self._next += 1
        self._items[number % SESSIONS] = 0
        self._lengths[number % SESSIONS] = 0
        return number

    def _scores(self, user_id: str) -> np.ndarray:
        """Return the scores of all items, `(len(HALF_LIVES_MS), items)`."""
        popularity = self._popularity.counts[0]
        scores = np.tile(popularity * (NEGLIGIBLE / max(popularity.max(), 1e-300)), (len(HALF_LIVES_MS), 1))
        asked = list(dict.fromkeys(reversed(self._histories.newest(user_id))))[:ASKED_ITEMS]
        if not asked:
            return scores
        weights = POSITION_DECAY ** np.arange(len(asked)) * self._rarity(np.array(asked))
        numbers, likeness = self._with_any(asked, weights, without=self._open[user_id])
        if not len(numbers):
            return scores
        slots = numbers % SESSIONS
        likeness /= np.sqrt(self._lengths[slots])
        age_ms = self._now_ms - self._last_ms[slots]
        own = np.zeros(len(popularity) + 1)
        own[np.array(asked) + 1] = weights
        for place, half_life_ms in enumerate(HALF_LIVES_MS):
            weighted = likeness * np.exp2(-age_ms / half_life_ms)
            nearest = slice(None) if len(slots) <= NEIGHBOURS else np.argpartition(-weighted, NEIGHBOURS)[:NEIGHBOURS]
            scores[place] += self._sum(slots[nearest], weighted[nearest], own)
        return scores

    def _with_any(self, rows: list[int], weights: np.ndarray, *, without: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sessions with any of these items, and the weights of each one's shared items."""
        lengths = np.minimum(self._posted[rows], SESSIONS_OF_ITEM)
        numbers = np.concatenate([self._postings[row, :length] for row, length in zip(rows, lengths, strict=True)])
        kept = (numbers >= self._next - SESSIONS) & (numbers != without)
        distinct, inverse = np.unique(numbers[kept], return_inverse=True)
        return distinct, np.bincount(inverse, np.repeat(weights, lengths)[kept], len(distinct))

    def _sum(self, slots: np.ndarray, weights: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the summed weights of the items of these sessions, `(items,)`."""
        items = self._items[slots, : self._lengths[slots].max()]  # (sessions, L)
        in_common = own[items].argmax(1)
        distance = np.abs(np.arange(items.shape[1]) - in_common[:, None])
        shares = weights[:, None] * np.exp(-distance / DISTANCE_STEPS) * (items > 0)
        summed = np.bincount(items.ravel(), shares.ravel(), len(own))[1:]
        found = np.flatnonzero(summed)
        summed[found] *= self._rarity(found)
        return summed

    def _rarity(self, rows: np.ndarray) -> np.ndarray:
        """Return the logarithm of the number of sessions per session with an item."""
        rarity: np.ndarray = np.log(1.0 + self._next / np.maximum(self._posted[rows], 1))
        return rarity
