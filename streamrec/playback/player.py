"""Plays turns into the pipeline, and scores users' lists just before their events."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from streamrec.adapters.redis import TopKReader
from streamrec.contracts.derived import TopKList
from streamrec.evaluation.baselines.categories import PopularInCategories
from streamrec.evaluation.baselines.popularity import HALF_LIVES_MS, RecentPopularity
from streamrec.playback.turns import HIT_AT, Play, Turn
from streamrec.service.ports import Publisher

PATIENCE_S = 0.5
"""Maximum wait for a list that includes the user's last event."""


class Player:
    """Plays turns: reads each user's list, lets the user act, scores the list, and produces the events.

    Parameters
    ----------
    reader, publisher
        Reader of lists, and publisher of events.
    hide_seen, sequence_length
        Settings of the baselines on the same events: recent popularity, and popularity in the user's categories.
    """

    def __init__(self, reader: TopKReader, publisher: Publisher, *, hide_seen: bool, sequence_length: int) -> None:
        self._reader = reader
        self._publisher = publisher
        self._category_of: dict[str, str] = {}
        self._popularity = RecentPopularity(hide_seen=hide_seen, sequence_length=sequence_length)
        self._yardstick = PopularInCategories(
            hide_seen=hide_seen, sequence_length=sequence_length, category_of=self._category_of
        )
        self.scores_lists = True
        """Whether to score lists."""
        self.events = 0
        self.scored = 0
        self.first_ms = self.newest_ms = 0
        """Event time of the first event and of the newest one."""
        self._hits = 0
        self._popular_hits = np.zeros(len(HALF_LIVES_MS), np.int64)
        self._yardstick_hits = self._best_hits = 0
        self._knows_best = False
        self._awaited: dict[str, tuple[int, float]] = {}
        """Event time and production time of a user's last event, while a list with it is awaited."""

    def play(self, turns: Sequence[Turn]) -> None:
        """Play turns whose lists are read together, just before their events are produced."""
        self._play(turns, self._read(turns))

    def play_up_to_date(self, turns: Sequence[Turn]) -> list[Turn]:
        """Play the turns of users whose list includes their last event, and return the others for a later call.

        A recording played a thousand times faster than it happened would otherwise leave no time for a list between two
        events of a user.
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
        plays = [self.act(turn, shown) for turn, shown in zip(turns, lists, strict=True)]
        self.score(plays, lists)
        self._publisher.publish([record for play in plays for record in play.records()])
        for turn, play in zip(turns, plays, strict=True):
            self._awaited.pop(turn.user_id, None)  # keeps the dictionary ordered by time
            if play.events:
                newest_ms = max(event.message.event_time_ms for event in play.events)
                self._awaited[turn.user_id] = (newest_ms, time.monotonic())

    def act(self, turn: Turn, shown: TopKList | None) -> Play:
        """Let a user act, after the oracle has made its list if lists are scored."""
        best = turn.best() if turn.best is not None and self.scores_lists else None
        return turn.play(shown)._replace(best=best)

    def score(self, plays: Sequence[Play], lists: Sequence[TopKList | None]) -> None:
        """Score lists and baselines, as of when lists were read, by their users' events."""
        for play, shown in zip(plays, lists, strict=True):
            top = set(shown.items.ids[:HIT_AT]) if shown else set()
            self._knows_best |= play.best is not None
            for item_id in play.withdrawn:
                self._yardstick.withdraw(item_id)
            for message, scored in play.events:
                if scored and self.scores_lists:
                    self.scored += 1
                    self._hits += message.item_id in top
                    self._popular_hits += self._popularity.would_hit(message.user_id, message.item_id, k=HIT_AT)
                    self._yardstick_hits += int(self._yardstick.ranks(message.user_id, message.item_id)[0]) < HIT_AT
                    self._best_hits += message.item_id in (play.best or ())
        for play in plays:
            self.events += len(play.events)
            for message, _ in play.events:
                self.first_ms = self.first_ms or message.event_time_ms
                self.newest_ms = max(self.newest_ms, message.event_time_ms)
                self._category_of[message.item_id] = message.category or self._category_of.get(message.item_id, "")
                for baseline in (self._popularity, self._yardstick):
                    baseline.learn_one(message.user_id, message.item_id, message.event_time_ms)

    @property
    def hit_rate(self) -> float:
        """Hit rate@10 of the users' lists."""
        return self._hits / max(1, self.scored)

    @property
    def popular_hit_rate(self) -> float:
        """The same for recent popularity with the best half-life."""
        return float(self._popular_hits.max()) / max(1, self.scored)

    @property
    def yardstick_hit_rate(self) -> float:
        """The same for popular items in the categories of the user's last clicks."""
        return self._yardstick_hits / max(1, self.scored)

    @property
    def oracle_hit_rate(self) -> float | None:
        """The same for the oracle, if there is one."""
        return self._best_hits / max(1, self.scored) if self._knows_best else None

    @property
    def popular_half_life_h(self) -> float:
        """The best half-life, in hours."""
        return float(HALF_LIVES_MS[self._popular_hits.argmax()]) / 3_600_000
