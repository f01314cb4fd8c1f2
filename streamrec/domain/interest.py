"""A user's interest state: a pure fold of events, independent of how partitions interleave.

The state holds the latest events unchanged, and commutative aggregates of older ones: counts, and decayed sums in a
fixed number of buckets. Session, short-term interest and category transitions are functions of the sequence
(:mod:`streamrec.domain.summary`) and are never stored. Because the latest N of a set, and a sum over the rest, do not
depend on arrival order, any interleaving of the partitions produces the same state (integers exactly, decayed sums up
to rounding).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple
from zlib import crc32

from streamrec.domain.event import Event, EventType, topic_number
from streamrec.domain.event_context import context_codes
from streamrec.domain.event_ids import Sighting, look_up, take_note
from streamrec.domain.feedback import WEIGHTS, Weights, weight_of
from streamrec.domain.seen import Seen, keep_latest

DAY_MS = 86_400_000
HALF_LIVES_DAYS = (1.0, 7.0, 30.0)
"""Half-lives of the long-term interest: a news cycle, a week, a season."""

_DOUBLINGS_PER_MS = tuple(-1.0 / (half_life * DAY_MS) for half_life in HALF_LIVES_DAYS)

BUCKETS = 32
"""Number of buckets each for items and categories beyond the sequence: a fixed size needs no eviction, which would make
the state depend on arrival order."""

DISLIKED_ITEMS = 200
"""Maximum number of items of dislikes older than the sequence that stay hidden: the latest ones."""

VERSIONS_BEGIN_MS = 631_152_000_000
"""Earliest accepted event time, in 1990."""

VERSIONS_PER_MS = 4_096
"""With this many, versions are exact in the floating-point numbers of Lua and JavaScript until 2059."""


class Outcome(Enum):
    """Outcome of folding an event."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """The event has the id of a different event."""
    FENCED = "fenced"
    """The state already contains what stood at this position: a redelivery. One of an event that was not applied ends
    as that did, unless it is older than the sequence: nothing of it is known then, and it passes for one that was."""


_OUTCOMES = {Sighting.NEW: Outcome.FENCED, Sighting.COPY: Outcome.DUPLICATE, Sighting.CONFLICT: Outcome.CONFLICT}
"""Of events that are not applied."""


class FoldRules(NamedTuple):
    """What a state keeps of events.

    Parameters
    ----------
    sequence_length
        Maximum number of events in the sequence.
    keep_seen
        Whether items of events that leave the sequence are remembered in `seen`.
    weights
        Weight of each kind of event, for sums over those that leave the sequence.
    context_keys
        Keys of the context that are kept.
    """

    sequence_length: int
    keep_seen: bool = False
    weights: Weights = WEIGHTS
    context_keys: tuple[str, ...] = ()


class SequenceEvent(NamedTuple):
    """An event in the sequence; the first four fields are the total order of a user's events.

    In a state, `event_type` is the graded type of the event (see `event`), in a record its signed kind (`feedback`).
    """

    event_time_ms: int
    event_type: int
    partition: int
    offset: int
    item_id: str
    category: str
    context: tuple[int, ...] = ()
    """Codes of the context."""


@dataclass(slots=True)
class Fence:
    """The fold's progress in one source partition.

    Parameters
    ----------
    offset
        The last offset of this user that was folded.
    recent_ids
        Remembered ids of the user's latest events in this partition (see `event_ids`), oldest first. Kept per partition
        because only a partition is ordered: duplicate detection must not depend on how partitions interleave. A
        producer's retry goes to the same partition.
    """

    offset: int
    recent_ids: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Beyond:
    """Aggregates of events older than the sequence; every field is commutative.

    Parameters
    ----------
    events
        Number of clicks, of purchases and of other events.
    reference_ms
        Reference time of the decayed sums: the newest event time in them.
    sums
        Decayed weight by bucket, one value per half-life in `HALF_LIVES_DAYS`.
        Buckets `0 .. BUCKETS-1` hold items, `BUCKETS .. 2*BUCKETS-1` categories.
    """

    events: list[int] = field(default_factory=lambda: [0, 0, 0])
    reference_ms: int = 0
    sums: dict[int, list[float]] = field(default_factory=dict)

    def add(self, event: SequenceEvent, weights: Weights = WEIGHTS) -> None:
        """Add an event that left the sequence; weights by kind."""
        self.events[topic_number(event.event_type)] += 1
        age_days = (event.event_time_ms - self.reference_ms) / DAY_MS
        if age_days > 0 and self.sums:
            factors = [0.5 ** (age_days / half_life) for half_life in HALF_LIVES_DAYS]
            self.sums = {
                bucket: [value * factor for value, factor in zip(sums, factors, strict=True)]
                for bucket, sums in self.sums.items()
            }
        self.reference_ms = max(self.reference_ms, event.event_time_ms)
        decayed = decayed_weights(event, self.reference_ms, weights)
        self._add_to(item_bucket(event.item_id), decayed)
        if event.category:
            self._add_to(category_bucket(event.category), decayed)

    def _add_to(self, bucket: int, weights: list[float]) -> None:
        sums = self.sums.get(bucket)
        self.sums[bucket] = weights if sums is None else [a + b for a, b in zip(sums, weights, strict=True)]


@dataclass(slots=True)
class InterestState:
    """The stored state of one user.

    Parameters
    ----------
    version
        Identifies the stored value, 0 for none: by compare-and-set on it, no two workers overwrite each other.
    sequence
        The latest events, oldest first.
    beyond
        Aggregates of older events; `None` until the sequence overflows, which for most users it never does.
    fence
        Progress by kind of event and partition.
    seen
        Hidden items of older events; `None` if there are none or they are not kept.
    disliked
        Time of the latest dislike older than the sequence, by item id, Unix milliseconds.

    Examples
    --------
    >>> from streamrec.domain.event import Source
    >>> state = InterestState()
    >>> click = Event("u1", "i1", 1_000, Source(EventType.CLICK, 0), offset=7)
    >>> state.fold(click, FoldRules(50)), state.fold(click, FoldRules(50))
    (<Outcome.APPLIED: 'applied'>, <Outcome.FENCED: 'fenced'>)
    >>> [event.item_id for event in state.sequence]
    ['i1']
    """

    version: int = 0
    sequence: list[SequenceEvent] = field(default_factory=list)
    beyond: Beyond | None = None
    fence: dict[tuple[int, int], Fence] = field(default_factory=dict)
    seen: Seen | None = None
    disliked: dict[str, int] = field(default_factory=dict)

    def fold(self, event: Event, rules: FoldRules) -> Outcome:
        """Fold one event; events of one source partition must be in offset order."""
        fence = self.fence.get(event.source)
        if fence is None:
            fence = self.fence[event.source] = Fence(event.offset)
        elif event.offset <= fence.offset:
            return Outcome.FENCED if self._may_contain(event) else _OUTCOMES[look_up(event, fence.recent_ids)]
        fence.offset = event.offset
        sighting = take_note(event, fence.recent_ids)
        if sighting is not Sighting.NEW:
            return _OUTCOMES[sighting]
        self._insert(event, rules)
        return Outcome.APPLIED

    def _may_contain(self, event: Event) -> bool:
        """Return whether an event is in the sequence, or was too old to stay there."""
        place: tuple[int, ...] = event.event_time_ms, event.graded_type, event.source.partition, event.offset
        at = bisect_left(self.sequence, place, key=_place_of)
        is_there = at < len(self.sequence) and _place_of(self.sequence[at]) == place
        return is_there or (at == 0 and self.beyond is not None)

    def _insert(self, event: Event, rules: FoldRules) -> None:
        entry = entry_of(event, rules.context_keys)
        sequence = self.sequence
        if not sequence or entry > sequence[-1]:
            sequence.append(entry)
        else:
            sequence.insert(bisect_left(sequence, entry), entry)
        while len(sequence) > rules.sequence_length:
            if self.beyond is None:
                self.beyond = Beyond()
            oldest = sequence.pop(0)
            self.beyond.add(oldest, rules.weights)
            if weight_of(oldest.event_type, rules.weights) < 0:
                keep_latest(self.disliked, oldest.item_id, oldest.event_time_ms, most=DISLIKED_ITEMS)
            elif rules.keep_seen:
                if self.seen is None:
                    self.seen = Seen()
                is_purchase = oldest.event_type == EventType.PURCHASE
                self.seen.add(oldest.item_id, oldest.event_time_ms, is_purchase=is_purchase)

    def seen_before(self) -> list[str]:
        """Return the remembered items from before the sequence that are not in it, sorted by id."""
        return self.seen.items(but={event.item_id for event in self.sequence}) if self.seen else []

    def disliked_before(self, sequence: Sequence[SequenceEvent]) -> list[str]:
        """Return the items of dislikes from before the sequence that the user has not come back to, sorted by id.

        Parameters
        ----------
        sequence
            The events of the sequence with signed kinds.
        """
        if not self.disliked:
            return []
        return sorted(self.disliked.keys() - {event.item_id for event in sequence if event.event_type >= 0})

    @property
    def events_count(self) -> int:
        """Number of all events folded into the state."""
        return len(self.sequence) + (sum(self.beyond.events) if self.beyond else 0)

    @property
    def content_version(self) -> int:
        """A number that only grows, even if the stored state is lost: newest event time first, then number of events.

        It is a function of the events in the state, so that a store restored from an older state reaches the same
        versions again. The time keeps it from decreasing when a state expired or was deleted and restarts with one
        event.

        Examples
        --------
        >>> before = InterestState(sequence=[SequenceEvent(VERSIONS_BEGIN_MS, 0, 0, n, "i1", "") for n in (1, 2)])
        >>> again = InterestState(sequence=[SequenceEvent(VERSIONS_BEGIN_MS + 1, 0, 0, 3, "i1", "")])
        >>> before.content_version, again.content_version
        (2, 4097)
        """
        newest_ms = self.sequence[-1].event_time_ms if self.sequence else VERSIONS_BEGIN_MS
        return max(0, newest_ms - VERSIONS_BEGIN_MS) * VERSIONS_PER_MS + min(self.events_count, VERSIONS_PER_MS - 1)


def entry_of(event: Event, context_keys: Sequence[str] = ()) -> SequenceEvent:
    """Return an event as a state keeps it."""
    return SequenceEvent(
        event.event_time_ms,
        event.graded_type,
        event.source.partition,
        event.offset,
        event.item_id,
        event.category,
        context_codes(event.context, event.event_time_ms, context_keys) if context_keys else (),
    )


def _place_of(entry: SequenceEvent) -> tuple[int, ...]:
    return entry[:4]


def item_bucket(item_id: str) -> int:
    """Return the bucket of an item beyond the sequence."""
    return crc32(item_id.encode()) % BUCKETS


def category_bucket(category: str) -> int:
    """Return the bucket of a category beyond the sequence."""
    return BUCKETS + crc32(category.encode()) % BUCKETS


def decayed_weights(event: SequenceEvent, now_ms: int, weights: Weights = WEIGHTS) -> list[float]:
    """Return the weight of an event at a later instant, one value per half-life."""
    weight = weight_of(event.event_type, weights)
    age_ms = now_ms - event.event_time_ms
    if not age_ms:
        return [weight, weight, weight]
    day, week, month = _DOUBLINGS_PER_MS  # unrolled, because this is most of the cost of a summary
    return [weight * 2.0 ** (age_ms * day), weight * 2.0 ** (age_ms * week), weight * 2.0 ** (age_ms * month)]
