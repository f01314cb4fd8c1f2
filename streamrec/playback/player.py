"""Plays turns into the pipeline, and scores the lists that users have just before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrec.adapters.redis import TopKReader
from streamrec.contracts.derived import TopKList
from streamrec.playback.popularity import HALF_LIVES_MS, RecentPopularity
from streamrec.playback.turns import Play, Turn
from streamrec.service.ports import Publisher

HIT_AT = 10


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

    def play(self, turns: Sequence[Turn]) -> None:
        """Play turns whose lists are read together, just before their events are produced."""
        lists = self._reader.read_many([turn.user_id for turn in turns])
        plays = [turn.play(shown) for turn, shown in zip(turns, lists, strict=True)]
        self.score(plays, lists)
        self._publisher.publish([record for play in plays for record in play.records()])

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
