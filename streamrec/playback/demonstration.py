"""The demo without its display: plays turns into a running pipeline and measures what comes out.

1. Most turns are played as fast as the workers take them, each list scored just before its user acts.
2. When all of that is handled, the last turns are played at a steady rate, and their lists' freshness is measured.
3. One event alone shows a list before and after it.
4. When no worker has any lag left, the counts of the broker and of the stores are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice

from msgspec import Struct

from streamrec.adapters.kafka import BroadcastReader, KafkaPublisher
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of, read_lag
from streamrec.adapters.postgres import RetentionReader
from streamrec.adapters.postgres.report import Day
from streamrec.adapters.redis import RedisInterestStore, TopKReader
from streamrec.contracts.derived import TopKList
from streamrec.contracts.topics import CLICKS, PURCHASES, RECOMMENDATIONS
from streamrec.errors import StreamrecError
from streamrec.kafka_access import KafkaAccess
from streamrec.model.evaluation.baselines.popularity import RecentPopularity
from streamrec.playback.backpressure import InFlight, Throttle
from streamrec.playback.freshness import FreshnessWatch, ModelWatch
from streamrec.playback.pace import at_rate, in_time
from streamrec.playback.player import Player
from streamrec.playback.records import event_record
from streamrec.playback.turns import PlayedEvent, Turn, hold_back
from streamrec.settings import Settings

MAX_TURNS_AT_A_TIME = 500
MIN_FAST_S = 10.0
MAX_WAITING_TURNS = 200
"""More turns do not wait for a list that knows their user's last event; baskets come in hundreds at once."""

STEADY_S = 5.0
DRAIN_S = 60.0
"""Workers that have not caught up with the rest after so long are not well."""

CHANGE_S = 10.0
_LOOK_S = 0.25
_LIST_LOOK_S = 0.001
_MODEL_LOOK_S = 0.05

MAX_MODEL_AGE_MS = 2_000
"""While there is time, the playing waits for a model that knows what was played so long ago."""

Report = Callable[[int], None]
"""Told how many turns have been played."""


class Change(Struct, kw_only=True):
    """What one event did to a list."""

    event: PlayedEvent
    before: TopKList
    after: TopKList | None
    """`None` if the list did not change in time."""
    delay_ms: float | None
    """From production to the new list in Redis."""


class Figures(Struct, kw_only=True):
    """What a demo found."""

    broker: str
    consumed: int
    """Records in `clicks` and `purchases`, read from the broker."""
    applied: int
    duplicates: int
    dead_lettered: int
    """What they became, from the store of interest states."""
    lag: int
    lists_emitted: int
    """Records in `recommendations`, from the broker."""
    freshness_p50_ms: float | None
    freshness_p99_ms: float | None
    """From the production of an event to the arrival of its list on `recommendations`, at `freshness_events_per_s`."""
    freshness_events_per_s: float
    hit_rate_at_10: float
    popular_hit_rate_at_10: float
    popular_half_life_h: float
    """The half-life of recent popularity that did best on the same events."""
    scored_events: int
    model_version: str
    days: list[Day]
    seconds: float

    @property
    def adds_up(self) -> bool:
        """Whether nothing disappeared and nothing waits."""
        return self.consumed == self.applied + self.duplicates + self.dead_lettered and self.lag == 0


class Demonstration:
    """Plays turns into a pipeline that runs.

    Parameters
    ----------
    settings
        Where the servers are.
    turns, total
        What is played, and about how many turns that is.
    turns_per_s
        How many turns a second are played while freshness is measured.

    Attributes
    ----------
    fast_turns
        About how many turns are played as fast as it goes.
    """

    def __init__(self, settings: Settings, turns: Iterator[Turn], total: int, *, turns_per_s: float) -> None:
        self._settings = settings
        self._turns_per_s = turns_per_s
        self._steady_turns = min(int(STEADY_S * turns_per_s), total // 4)
        self.fast_turns = max(1, total - self._steady_turns)
        self._turns, self._last = hold_back(turns, self._steady_turns)
        self._kafka = settings.require_kafka()
        self._reader = TopKReader(settings.require_redis_url())
        self._publisher = KafkaPublisher(self._kafka)
        popularity = RecentPopularity(hide_seen=settings.hide_seen, sequence_length=settings.sequence_length)
        self.player = Player(self._reader, self._publisher, popularity)
        self._watch: FreshnessWatch | None = None
        self._steady_events_per_s = 0.0

    def play_fast(self, end_s: float, report: Report) -> None:
        """Play most turns until an instant of the monotonic clock; the less time there is, the older the lists."""
        played = 0
        started_s = time.monotonic()
        throttle = Throttle(self.fast_turns, max(MIN_FAST_S, end_s - started_s))
        with closing(InFlight(self._settings)) as in_flight, closing(ModelWatch(self._kafka)) as model:
            waiting: list[Turn] = []
            while chunk := [*waiting, *islice(self._turns, min(int(throttle.allowed / 2), MAX_TURNS_AT_A_TIME))]:
                if len(waiting) > MAX_WAITING_TURNS:
                    self.player.play(chunk)
                    waiting = []
                else:
                    waiting = self.player.play_up_to_date(chunk)
                produced_ms = time.time_ns() // 1_000_000
                if not played:
                    in_flight.wait_until_at_most(0)  # the workers have started
                    started_s = time.monotonic()
                    throttle.budget_s = max(MIN_FAST_S, end_s - started_s)
                played += len(chunk) - len(waiting)
                report(played)
                in_flight.wait_until_at_most(throttle.adapt(played, time.monotonic() - started_s))
                # a model that has seen little of what was played would be judged by how fast that was
                while throttle.in_time(played, time.monotonic() - started_s) and not model.has_learned(
                    produced_ms - MAX_MODEL_AGE_MS
                ):
                    time.sleep(_MODEL_LOOK_S)
            in_flight.wait_until_at_most(0)

    def play_steadily(self) -> None:
        """Play the last turns at a steady rate and measure how fresh their lists are."""
        events_before, started_s = self.player.events, time.monotonic()
        with FreshnessWatch(self._kafka) as self._watch, closing(InFlight(self._settings)) as in_flight:
            for chunk in in_time(self._last, at_rate(self._turns_per_s), lambda _turn: 0):
                self.player.play(chunk)
            self._steady_events_per_s = (self.player.events - events_before) / (time.monotonic() - started_s)
            in_flight.wait_until_at_most(0)

    def take_telling_turn(self) -> Turn | None:
        """Take the last turn of a user who has a list out of those that are still to be played."""
        own = self._reader.read_many([turn.user_id for turn in self._last])
        for index in reversed(range(len(self._last))):
            newest = own[index]
            if newest is not None and newest.user_id:
                turn = self._last[index]
                del self._last[index]
                return turn
        return None

    def show_change(self, turn: Turn) -> Change | None:
        """Play one turn, its first event alone, and wait for the list that knows of it."""
        before = self._reader.read(turn.user_id)
        play = turn.play(before)
        self.player.score([play], [before])
        self._publisher.publish(list(play.items))
        if before is None or not play.events:
            return None
        first, *others = play.events
        produced_s = time.monotonic()
        self._publisher.publish([event_record(first.message)])
        after = self._wait_for_change(before, turn.user_id, produced_s + CHANGE_S)
        delay_ms = None if after is None else round(1_000 * (time.monotonic() - produced_s), 1)
        self._publisher.publish([event_record(event.message) for event in others])
        return Change(event=first, before=before, after=after, delay_ms=delay_ms)

    def _wait_for_change(self, before: TopKList, user_id: str, end_s: float) -> TopKList | None:
        while time.monotonic() < end_s:
            newest = self._reader.read(user_id)
            if newest is not None and newest.list_id != before.list_id:
                return newest
            time.sleep(_LIST_LOOK_S)
        return None

    def wait_for_no_lag(self) -> int:
        """Wait until all workers have handled everything, and return what is left after `DRAIN_S`."""
        end_s = time.monotonic() + DRAIN_S
        while lag := sum(part.lag for part in read_lag(self._kafka)):
            if time.monotonic() > end_s:
                break
            time.sleep(_LOOK_S)
        return lag

    def figures(self, broker: str, lag: int, seconds: float) -> Figures:
        """Compare what the broker holds with what the stores say became of it."""
        store = RedisInterestStore(self._settings.require_redis_url(), state_ttl_days=self._settings.state_ttl_days)
        with closing(open_observer(self._kafka)) as observer:
            sources = partitions_of(observer, (CLICKS, PURCHASES))
            lists = end_offsets(observer, partitions_of(observer, (RECOMMENDATIONS,)))
        progress = list(store.progress(sources).values())
        default = self._reader.read("")
        if default is None:
            raise StreamrecError("no list was made, not even the default one")
        return Figures(
            broker=broker,
            consumed=count_records(self._kafka, (CLICKS, PURCHASES)),
            applied=sum(part.applied for part in progress),
            duplicates=sum(part.duplicates for part in progress),
            dead_lettered=sum(part.dead_lettered for part in progress),
            lag=lag,
            lists_emitted=sum(lists.values()),
            freshness_p50_ms=self._watch.percentile_ms(50) if self._watch else None,
            freshness_p99_ms=self._watch.percentile_ms(99) if self._watch else None,
            freshness_events_per_s=round(self._steady_events_per_s, 1),
            hit_rate_at_10=round(self.player.hit_rate, 5),
            popular_hit_rate_at_10=round(self.player.popular_hit_rate, 5),
            popular_half_life_h=self.player.popular_half_life_h,
            scored_events=self.player.scored,
            model_version=default.model_version,
            days=RetentionReader(self._settings.require_postgres_url()).report().days,
            seconds=round(seconds, 1),
        )


def count_records(kafka: KafkaAccess, topics: Sequence[str]) -> int:
    """Return how many records a reader of topics gets: offsets would count the markers of transactions, too.

    Records in a row that the client cannot read are one, as they are one dead letter.

    Raises
    ------
    TransientError
        If the broker does not answer, or a topic does not exist.
    """
    count = 0
    with closing(BroadcastReader(kafka=kafka, topics=topics)) as reader:
        while not reader.caught_up:
            if batch := reader.poll(_LOOK_S):
                count += len(batch)
        return count + reader.refused.total()
