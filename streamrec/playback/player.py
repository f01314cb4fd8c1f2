"""Plays turns into the pipeline, and scores the lists that users have just before."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from streamrec.adapters.redis import TopKReader
from streamrec.contracts.derived import TopKList
from streamrec.model.evaluation.baselines.popularity import HALF_LIVES_MS, RecentPopularity
from streamrec.playback.turns import Play, Turn
from streamrec.service.ports import Publisher

HIT_AT = 10

PATIENCE_S = 0.5
"""A list that does not know the user's last event after so long is taken as it is."""


class Player:
    """Plays turns: reads each user's list, lets the user act, scores the list by it, produces the events.

    Parameters
    ----------
    reader, publisher
        Where lists come from, and where events go.
    popularity
        The yardstick on the same events.
    """

    def __init__(self, reader: TopKReader, publisher: Publisher, popularity: RecentPopularity) -> None:
        self._reader = reader
        self._publisher = publisher
        self._popularity = popularity
        self.events = 0
        self.scored = 0
        self._hits = 0
        self._popular_hits = np.zeros(len(HALF_LIVES_MS), np.int64)
        self._awaited: dict[str, tuple[int, float]] = {}
        """Event time of a user's last event, and when it was produced, for as long as there is patience."""

    def play(self, turns: Sequence[Turn]) -> None:
        """Play turns whose lists are read together, just before their events are produced."""
        self._play(turns, self._read(turns))

    def play_up_to_date(self, turns: Sequence[Turn]) -> list[Turn]:
        """Play the turns of users whose list knows their last event, and return the others, for a later call.

        A recording that is played a thousand times faster than it happened leaves no time for a list between two
        events of a user, which there was.
        """
        while self._awaited and self._waited_s(user_id := next(iter(self._awaited))) > PATIENCE_S:
            del self._awaited[user_id]
        users: set[str] = set()
        now: list[tuple[Turn, TopKList | None]] = []
        later = []
        for turn, shown in zip(turns, self._read(turns), strict=True):
            if turn.user_id in users or not self._is_up_to_date(turn.user_id, shown):
                later.append(turn)
            else:
                now.append((turn, shown))
            users.add(turn.user_id)
        self._play([turn for turn, _ in now], [shown for _, shown in now])
        return later

    def _read(self, turns: Sequence[Turn]) -> list[TopKList | None]:
        return self._reader.read_many([turn.user_id for turn in turns])

    def _waited_s(self, user_id: str) -> float:
        return time.monotonic() - self._awaited[user_id][1]

    def _is_up_to_date(self, user_id: str, shown: TopKList | None) -> bool:
        awaited = self._awaited.get(user_id)
        return awaited is None or (shown is not None and shown.user_id == user_id and shown.event_time_ms >= awaited[0])

    def _play(self, turns: Sequence[Turn], lists: Sequence[TopKList | None]) -> None:
        plays = [turn.play(shown) for turn, shown in zip(turns, lists, strict=True)]
        self.score(plays, lists)
        self._publisher.publish([record for play in plays for record in play.records()])
        for turn, play in zip(turns, plays, strict=True):
            self._awaited.pop(turn.user_id, None)  # the order is that of the instants
            if play.events:
                newest_ms = max(event.message.event_time_ms for event in play.events)
                self._awaited[turn.user_id] = (newest_ms, time.monotonic())

    def score(self, plays: Sequence[Play], lists: Sequence[TopKList | None]) -> None:
        """Score lists, and recent popularity at the moment when they were read, by what their users did."""
        for play, shown in zip(plays, lists, strict=True):
            top = {item.item_id for item in shown.items[:HIT_AT]} if shown else set()
            for message, scored in play.events:
                if scored:
                    self.scored += 1
                    self._hits += message.item_id in top
                    self._popular_hits += self._popularity.would_hit(message.user_id, message.item_id, k=HIT_AT)
        for play in plays:
            self.events += len(play.events)
            for message, _ in play.events:
                self._popularity.learn_one(message.user_id, message.item_id, message.event_time_ms)

    @property
    def hit_rate(self) -> float:
        """Share of scored events whose item was among the first ten of the user's list."""
        return self._hits / max(1, self.scored)

    @property
    def popular_hit_rate(self) -> float:
        """The same of recent popularity, with the half-life that did best."""
        return float(self._popular_hits.max()) / max(1, self.scored)

    @property
    def popular_half_life_h(self) -> float:
        """The half-life that did best, in hours."""
        return float(HALF_LIVES_MS[self._popular_hits.argmax()]) / 3_600_000
