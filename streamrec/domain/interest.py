"""A user's interest state: a pure fold of clicks and purchases that no interleaving of partitions can change.

The state holds the newest events themselves, and of older ones only what is commutative: counts, and decayed sums in a
fixed number of buckets. Session, short-term interest and category transitions are functions of the sequence
(:mod:`streamrec.domain.summary`) and are never stored. Because the newest N of a set, and a sum over the rest, do not
depend on the order in which the set was seen, any interleaving of the partitions ends in the same state (integers
exactly, decayed sums to rounding).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple
from zlib import crc32

from streamrec.domain.event import Event, EventType
from streamrec.domain.event_ids import Sighting, look_up, take_note
from streamrec.domain.seen import Seen

DAY_MS = 86_400_000
HALF_LIVES_DAYS = (1.0, 7.0, 30.0)
"""Half-lives of the long-term interest: a news cycle, a week, a season."""

_DOUBLINGS_PER_MS = tuple(-1.0 / (half_life * DAY_MS) for half_life in HALF_LIVES_DAYS)

BUCKETS = 32
"""Items and categories beyond the sequence share so many buckets each: a fixed size needs no eviction,
and eviction is what would make the state depend on the order of arrival."""

VERSIONS_BEGIN_MS = 631_152_000_000
"""The earliest event time that is accepted, in 1990."""

VERSIONS_PER_MS = 4_096
"""With this many, versions are exact in the floating-point numbers of Lua and JavaScript until 2059."""

WEIGHTS = (1.0, 5.0)
"""Of a click and of a purchase, which says about as much as several clicks."""


class Outcome(Enum):
    """What became of an event."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """It has the id of another event, and so is neither a copy nor an event of its own."""
    FENCED = "fenced"
    """The state already contains what stood at this position: a redelivery. One of an event that was not applied ends
    as that did, unless it is older than the sequence: nothing of it is known then, and it passes for one that was."""


_OUTCOMES = {Sighting.NEW: Outcome.FENCED, Sighting.COPY: Outcome.DUPLICATE, Sighting.CONFLICT: Outcome.CONFLICT}
"""Of events that are not applied."""


class SequenceEvent(NamedTuple):
    """An event in the sequence; the first four fields are the total order of a user's events."""

    event_time_ms: int
    event_type: int
    partition: int
    offset: int
    item_id: str
    category: str


@dataclass(slots=True)
class Fence:
    """How far one source partition is contained in a state.

    Parameters
    ----------
    offset
        The last offset of this user that was folded.
    recent_ids
        What is remembered of the user's last event ids in this partition (see `event_ids`), oldest first. It is kept by
        partition because only a partition has an order of its own: what counts as a duplicate must not depend on how
        partitions interleave. A producer's retry lands in the partition of the first try.
    """

    offset: int
    recent_ids: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Beyond:
    """What a state still knows of events older than its sequence; every field is commutative.

    Parameters
    ----------
    events
        Number of events by type.
    reference_ms
        The instant that the decayed sums refer to: the newest event time in them.
    sums
        Decayed weight by bucket, one value per half-life in `HALF_LIVES_DAYS`.
        Buckets `0 .. BUCKETS-1` hold items, `BUCKETS .. 2*BUCKETS-1` categories.
    """

    events: list[int] = field(default_factory=lambda: [0] * len(EventType))
    reference_ms: int = 0
    sums: dict[int, list[float]] = field(default_factory=dict)

    def add(self, event: SequenceEvent) -> None:
        """Let an event that left the sequence sink in."""
        self.events[event.event_type] += 1
        age_days = (event.event_time_ms - self.reference_ms) / DAY_MS
        if age_days > 0 and self.sums:
            factors = [0.5 ** (age_days / half_life) for half_life in HALF_LIVES_DAYS]
            self.sums = {
                bucket: [value * factor for value, factor in zip(sums, factors, strict=True)]
                for bucket, sums in self.sums.items()
            }
        self.reference_ms = max(self.reference_ms, event.event_time_ms)
        weights = decayed_weights(event, self.reference_ms)
        self._add_to(item_bucket(event.item_id), weights)
        if event.category:
            self._add_to(category_bucket(event.category), weights)

    def _add_to(self, bucket: int, weights: list[float]) -> None:
        sums = self.sums.get(bucket)
        self.sums[bucket] = weights if sums is None else [a + b for a, b in zip(sums, weights, strict=True)]


@dataclass(slots=True)
class InterestState:
    """All that is stored of one user.

    Parameters
    ----------
    version
        Number of times it was written; a compare-and-set on it keeps two workers from overwriting each other.
    sequence
        The newest events, oldest first.
    beyond
        What is left of older ones; `None` until the sequence has overflowed once, as for most users it never does.
    fence
        By source partition, at most one entry for each partition of `clicks` and `purchases`.
    seen
        Items of older events that lists hide; `None` unless they are kept and there are any.

    Examples
    --------
    >>> from streamrec.domain.event import Source
    >>> state = InterestState()
    >>> click = Event("u1", "i1", 1_000, Source(EventType.CLICK, 0), offset=7)
    >>> state.fold(click, sequence_length=50), state.fold(click, sequence_length=50)
    (<Outcome.APPLIED: 'applied'>, <Outcome.FENCED: 'fenced'>)
    >>> [event.item_id for event in state.sequence]
    ['i1']
    """

    version: int = 0
    sequence: list[SequenceEvent] = field(default_factory=list)
    beyond: Beyond | None = None
    fence: dict[tuple[int, int], Fence] = field(default_factory=dict)
    seen: Seen | None = None

    def fold(self, event: Event, *, sequence_length: int, keep_seen: bool = False) -> Outcome:
        """Let one event in; events of one source partition must come in the order of their offsets.

        Parameters
        ----------
        sequence_length
            Newest events that the sequence keeps.
        keep_seen
            Whether items of events that leave the sequence are remembered in `seen`.
        """
        fence = self.fence.get(event.source)
        if fence is None:
            fence = self.fence[event.source] = Fence(event.offset)
        elif event.offset <= fence.offset:
            return Outcome.FENCED if self._may_contain(event) else _OUTCOMES[look_up(event, fence.recent_ids)]
        fence.offset = event.offset
        sighting = take_note(event, fence.recent_ids)
        if sighting is not Sighting.NEW:
            return _OUTCOMES[sighting]
        self._insert(event, sequence_length, keep_seen=keep_seen)
        return Outcome.APPLIED

    def _may_contain(self, event: Event) -> bool:
        """Return whether an event is in the sequence, or was too old to stay there."""
        place: tuple[int, ...] = (event.event_time_ms, *event.source, event.offset)
        at = bisect_left(self.sequence, place, key=_place_of)
        is_there = at < len(self.sequence) and _place_of(self.sequence[at]) == place
        return is_there or (at == 0 and self.beyond is not None)

    def _insert(self, event: Event, sequence_length: int, *, keep_seen: bool) -> None:
        entry = SequenceEvent(
            event.event_time_ms,
            event.source.event_type,
            event.source.partition,
            event.offset,
            event.item_id,
            event.category,
        )
        sequence = self.sequence
        if not sequence or entry > sequence[-1]:
            sequence.append(entry)
        else:
            sequence.insert(bisect_left(sequence, entry), entry)
        while len(sequence) > sequence_length:
            if self.beyond is None:
                self.beyond = Beyond()
            oldest = sequence.pop(0)
            self.beyond.add(oldest)
            if keep_seen:
                if self.seen is None:
                    self.seen = Seen()
                is_purchase = oldest.event_type == EventType.PURCHASE
                self.seen.add(oldest.item_id, oldest.event_time_ms, is_purchase=is_purchase)

    def seen_before(self) -> list[str]:
        """Return the items that are remembered from before the sequence and are not in it, in order of their ids."""
        return self.seen.items(but={event.item_id for event in self.sequence}) if self.seen else []

    @property
    def events_count(self) -> int:
        """Number of events that the state contains, however old."""
        return len(self.sequence) + (sum(self.beyond.events) if self.beyond else 0)

    @property
    def content_version(self) -> int:
        """A number that only grows, whatever becomes of the stored state: newest event time first, then events.

        It is a function of the events in the state, so that a store that came back older arrives at the same versions
        again. The time keeps it from going back where a state begins again with one event: it expired, or was deleted.

        Examples
        --------
        >>> before = InterestState(sequence=[SequenceEvent(VERSIONS_BEGIN_MS, 0, 0, n, "i1", "") for n in (1, 2)])
        >>> again = InterestState(sequence=[SequenceEvent(VERSIONS_BEGIN_MS + 1, 0, 0, 3, "i1", "")])
        >>> before.content_version, again.content_version
        (2, 4097)
        """
        newest_ms = self.sequence[-1].event_time_ms if self.sequence else VERSIONS_BEGIN_MS
        return max(0, newest_ms - VERSIONS_BEGIN_MS) * VERSIONS_PER_MS + min(self.events_count, VERSIONS_PER_MS - 1)


def _place_of(entry: SequenceEvent) -> tuple[int, ...]:
    return entry[:4]


def item_bucket(item_id: str) -> int:
    """Return the bucket of an item beyond the sequence."""
    return crc32(item_id.encode()) % BUCKETS


def category_bucket(category: str) -> int:
    """Return the bucket of a category beyond the sequence."""
    return BUCKETS + crc32(category.encode()) % BUCKETS


def decayed_weights(event: SequenceEvent, now_ms: int) -> list[float]:
    """Return the weight of an event at a later instant, one value per half-life."""
    weight = WEIGHTS[event.event_type]
    age_ms = now_ms - event.event_time_ms
    day, week, month = _DOUBLINGS_PER_MS  # written out, for this is most of what a summary costs
    return [weight * 2.0 ** (age_ms * day), weight * 2.0 ** (age_ms * week), weight * 2.0 ** (age_ms * month)]
