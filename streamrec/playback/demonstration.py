"""The demo without its display: plays turns into a running pipeline and measures the results.

1. The first turns are history: they are played as fast as the workers process them, without scoring.
2. The next ones are played in several parts, with each list scored just before its user acts. Days pass in seconds
here, which leaves no time for training and background rebuilding: so before each part the stream pauses until the model
has learned everything and all lists include it.
3. The last turns are played at a steady rate, to measure the freshness of their lists.
4. A single event shows a list before and after it.
5. When no worker has any lag, the counts of the broker and of the stores are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

from msgspec import Struct

from streamrec.adapters.kafka import BroadcastReader, KafkaPublisher
from streamrec.adapters.kafka.group_lag import PartitionLag
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of, read_lag
from streamrec.adapters.postgres import RetentionReader
from streamrec.adapters.postgres.report import Day
from streamrec.adapters.redis import RedisInterestStore, TopKReader
from streamrec.contracts.derived import TopKList
from streamrec.contracts.topics import EVENT_TOPICS, RECOMMENDATIONS
from streamrec.errors import StreamrecError
from streamrec.kafka_access import KafkaAccess
from streamrec.playback.backpressure import InFlight, Throttle
from streamrec.playback.freshness import FreshnessWatch
from streamrec.playback.pace import at_rate, in_time
from streamrec.playback.player import Player
from streamrec.playback.records import event_record
from streamrec.playback.rest import Rest, Say
from streamrec.playback.turns import PlayedEvent, Turn, hold_back
from streamrec.settings import Settings

MAX_TURNS_AT_A_TIME = 500
MAX_WAITING_TURNS = 200
"""Maximum number of turns waiting for a list that includes their user's last event; baskets may have hundreds of
events."""

HISTORY_SHARE = 0.7
"""Share of the turns played before lists are scored."""

HISTORY_S = 30.0
"""Time budget of the history: to meet it, more events are in flight and lists are older."""

PARTS = 5
"""Number of parts of the scored turns, about two days of the simulated shop each."""

STEADY_S = 5.0
CHANGE_S = 60.0
_LIST_LOOK_S = 0.001
_POLL_S = 0.25

Report = Callable[[int], None]
"""Called with the number of played turns."""


class Change(Struct, kw_only=True):
    """Effect of one event on a list."""

    event: PlayedEvent
    before: TopKList
    after: TopKList | None
    """`None` if the list did not change in time."""
    delay_ms: float | None
    """From production to the new list in Redis."""


class Figures(Struct, kw_only=True):
    """Results of a demo."""

    broker: str
    consumed: int
    """Number of records in `clicks` and `purchases`, from the broker."""
    applied: int
    duplicates: int
    dead_lettered: int
    """Their outcomes, from the store of interest states."""
    lag: int
    """Number of events and states that a worker has not processed."""
    lists_emitted: int
    """Number of records in `recommendations`, from the broker."""
    freshness_p50_ms: float | None
    freshness_p99_ms: float | None
    """From the production of an event to the arrival of its list on `recommendations`, at `freshness_events_per_s`."""
    freshness_events_per_s: float
    hit_rate_at_10: float
    yardstick_hit_rate_at_10: float
    """Hit rate of the ten-line baseline: popular items in the categories of the user's last clicks."""
    oracle_hit_rate_at_10: float | None
    """Hit rate of the oracle, which knows the simulated shop; `None` for a file."""
    popular_hit_rate_at_10: float
    popular_half_life_h: float
    """The best half-life of recent popularity on the same events."""
    scored_events: int
    model_version: str
    days: list[Day]
    seconds: float

    @property
    def adds_up(self) -> bool:
        """Whether nothing was lost and nothing waits."""
        return self.consumed == self.applied + self.duplicates + self.dead_lettered and self.lag == 0


class Demonstration:
    """Plays turns into a running pipeline.

    Parameters
    ----------
    settings
        Settings with the servers' addresses.
    turns, total
        Turns to play, and their approximate number.
    turns_per_s
        Turns/s while freshness is measured.
    say
        Called with the reason for long waits.

    Attributes
    ----------
    history_turns, scored_turns
        Approximate numbers of unscored turns, and of scored turns played at full speed.
    """

    def __init__(self, settings: Settings, turns: Iterator[Turn], total: int, *, turns_per_s: float, say: Say) -> None:
        self._settings = settings
        self._turns_per_s = turns_per_s
        self._steady_turns = min(int(STEADY_S * turns_per_s), total // 10)
        self.history_turns = int(HISTORY_SHARE * total)
        self.scored_turns = max(1, total - self.history_turns - self._steady_turns)
        self._turns, self._last = hold_back(turns, self._steady_turns)
        self._kafka = settings.require_kafka()
        self._reader = TopKReader(settings.require_redis_url())
        self._publisher = KafkaPublisher(self._kafka)
        self._rest = Rest(settings, say)
        self.player = Player(
            self._reader, self._publisher, hide_seen=settings.hide_seen, sequence_length=settings.sequence_length
        )
        self._watch: FreshnessWatch | None = None
        self._steady_events_per_s = 0.0

    def play_history(self, report: Report) -> None:
        """Play the first turns as fast as the workers process them, without scoring."""
        self.player.scores_lists = False
        with closing(InFlight(self._settings)) as in_flight:
            self._play_fast(self.history_turns, in_flight, Throttle(self.history_turns, HISTORY_S), report)
        self.player.scores_lists = True

    def play_scored(self, report: Report) -> None:
        """Play the next turns, pausing the stream before each part."""
        played = 0
        part = -(-self.scored_turns // PARTS)
        with closing(InFlight(self._settings)) as in_flight:
            while True:
                self.rest()
                throttle = Throttle(0, HISTORY_S)  # never behind schedule: as few records in flight as possible
                now = self._play_fast(part, in_flight, throttle, lambda turns: report(played + turns))  # noqa: B023
                if not now:
                    return
                played += now

    def rest(self) -> None:
        """Wait until the model has learned everything, and all lists include it."""
        self._rest.until_lists_are_new()

    def _play_fast(self, turns: int, in_flight: InFlight, throttle: Throttle, report: Report) -> int:
        """Play this many turns, with few events in flight, and return their number."""
        played, started_s = 0, time.monotonic()
        waiting: list[Turn] = []
        source = islice(self._turns, turns)
        while chunk := [*waiting, *islice(source, min(int(throttle.allowed / 2), MAX_TURNS_AT_A_TIME))]:
            if len(waiting) > MAX_WAITING_TURNS:
                self.player.play(chunk)
                waiting = []
            else:
                waiting = self.player.play_up_to_date(chunk)
            if not played:
                in_flight.wait_until_at_most(0)  # the workers have started
                started_s = time.monotonic()
            played += len(chunk) - len(waiting)
            report(played)
            in_flight.wait_until_at_most(throttle.adapt(played, time.monotonic() - started_s))
        in_flight.wait_until_at_most(0)
        return played

    def play_steadily(self) -> None:
        """Play the last turns at a steady rate and measure the freshness of their lists."""
        events_before, started_s = self.player.events, time.monotonic()
        with FreshnessWatch(self._kafka) as self._watch, closing(InFlight(self._settings)) as in_flight:
            for chunk in in_time(self._last, at_rate(self._turns_per_s), lambda _turn: 0):
                self.player.play(chunk)
            self._steady_events_per_s = (self.player.events - events_before) / (time.monotonic() - started_s)
            in_flight.wait_until_at_most(0)

    def take_telling_turn(self) -> Turn | None:
        """Remove the last turn of a user with a list from the remaining turns."""
        own = self._reader.read_many([turn.user_id for turn in self._last])
        for index in reversed(range(len(self._last))):
            newest = own[index]
            if newest is not None and newest.user_id:
                turn = self._last[index]
                del self._last[index]
                return turn
        return None

    def show_change(self, turn: Turn) -> Change | None:
        """Play one turn, only its first event, and wait for the list that includes it."""
        before = self._reader.read(turn.user_id)
        play = self.player.act(turn, before)
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

    def wait_for_no_lag(self) -> None:
        """Wait until all workers have processed everything."""
        self._rest.until_no_lag()

    def figures(self, broker: str, seconds: float) -> Figures:
        """Compare the broker's records with the outcomes in the stores."""
        store = RedisInterestStore(self._settings.require_redis_url(), state_ttl_days=self._settings.state_ttl_days)
        with closing(open_observer(self._kafka)) as observer:
            sources = partitions_of(observer, EVENT_TOPICS)
            lists = end_offsets(observer, partitions_of(observer, (RECOMMENDATIONS,)))
        progress = list(store.progress(sources).values())
        oracle = self.player.oracle_hit_rate
        default = self._reader.read("")
        if default is None:
            raise StreamrecError("no list was made, not even the default one")
        return Figures(
            broker=broker,
            consumed=count_records(self._kafka, EVENT_TOPICS),
            applied=sum(part.applied for part in progress),
            duplicates=sum(part.duplicates for part in progress),
            dead_lettered=sum(part.dead_lettered for part in progress),
            lag=unprocessed(read_lag(self._kafka)),
            lists_emitted=sum(lists.values()),
            freshness_p50_ms=self._watch.percentile_ms(50) if self._watch else None,
            freshness_p99_ms=self._watch.percentile_ms(99) if self._watch else None,
            freshness_events_per_s=round(self._steady_events_per_s, 1),
            hit_rate_at_10=round(self.player.hit_rate, 5),
            yardstick_hit_rate_at_10=round(self.player.yardstick_hit_rate, 5),
            oracle_hit_rate_at_10=None if oracle is None else round(oracle, 5),
            popular_hit_rate_at_10=round(self.player.popular_hit_rate, 5),
            popular_half_life_h=self.player.popular_half_life_h,
            scored_events=self.player.scored,
            model_version=default.model_version,
            days=RetentionReader(self._settings.require_postgres_url()).report().days,
            seconds=round(seconds, 1),
        )


def unprocessed(parts: Iterable[PartitionLag]) -> int:
    """Return the lag of all groups without that of lists, which are also made in the background, at any time."""
    return sum(part.lag for part in parts if part.topic != RECOMMENDATIONS)


def count_records(kafka: KafkaAccess, topics: Sequence[str]) -> int:
    """Count the records of topics by reading them: offsets would include transaction markers.

    Consecutive unreadable records count as one, like their dead letter.

    Raises
    ------
    TransientError
        If the broker does not answer, or a topic does not exist.
    """
    count = 0
    with closing(BroadcastReader(kafka=kafka, topics=topics)) as reader:
        while not reader.caught_up:
            if batch := reader.poll(_POLL_S):
                count += len(batch)
        return count + reader.refused.total()
