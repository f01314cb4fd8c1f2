"""Retention and attribution: returning users and clicked lists.

A user's day is the day of the event time in the time zone of the reports. Day n of a user is n days after the first
day; a cohort is all users with the same first day. Definitions as in product analytics: classic (day n) and rolling
(day n or later) retention, and stickiness as daily over monthly active users.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import accumulate
from zlib import crc32

from streamrec.domain.event import Event
from streamrec.domain.event_ids import Sighting, take_note
from streamrec.domain.interest import DAY_MS

RETENTION_DAYS = (1, 7, 30)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

REACH_DAYS = 30
"""Events later than this many days after a day do not prove that the day is complete: a single event of another year
does not turn all days before it into days on which nobody returned."""

REMEMBERED_LISTS = 3
"""Number of a user's latest lists that are remembered; a list with the id of one of them is a duplicate."""


MAX_REMEMBERED_ITEMS = 1_000
"""Of a rebuilt list the items of all its forms are remembered up to this number, then only those of the latest."""


@dataclass(frozen=True, slots=True)
class RememberedList:
    """A list as stored for attribution.

    Parameters
    ----------
    list_id
        Id of the list.
    event_time_ms
        Event time of the newest event in it: later events may be clicks on it.
    items
        Hashes of its items.
    """

    list_id: str
    event_time_ms: int
    items: frozenset[int]


@dataclass(slots=True)
class UserRetention:
    """What retention stores per user, besides a row for each active day.

    Parameters
    ----------
    first_day, last_day
        Days since 1970 of the first and the last activity, by event time; `None` before any.
    recent_ids
        Remembered ids of the latest events by source partition, oldest first: the same duplicate detection as in the
        interest state.
    lists
        The latest lists, oldest first, at most `REMEMBERED_LISTS`.

    Examples
    --------
    >>> from streamrec.domain.event import EventType, Source
    >>> user = UserRetention()
    >>> user.remember(RememberedList("l1", 1_000, frozenset([item_hash("a")])))
    True
    >>> click = Event("u", "a", 2_000, Source(EventType.CLICK, 0), offset=1)
    >>> user.followed(click, window_ms=5_000)
    'l1'
    >>> user.record(click)
    True
    >>> user.first_day
    0
    """

    first_day: int | None = None
    last_day: int | None = None
    recent_ids: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    lists: list[RememberedList] = field(default_factory=list)

    def record(self, event: Event, zone: tzinfo = UTC) -> bool:
        """Record one event on its day in a time zone; return whether it is new."""
        if event.id_hash is not None:
            recent = self.recent_ids.setdefault(event.source, [])
            if take_note(event, recent) is not Sighting.NEW:
                return False
        day = day_of(event.event_time_ms, zone)
        self.first_day = day if self.first_day is None else min(day, self.first_day)
        self.last_day = day if self.last_day is None else max(day, self.last_day)
        return True

    def remember(self, made: RememberedList) -> bool:
        """Remember a list; return whether it is new.

        A list older than all remembered ones is not new: lists made again from the log, after a store was lost, count
        once.
        """
        for place, known in enumerate(self.lists):
            if known.list_id == made.list_id:
                # rebuilt from the same state: the user may have seen either
                both = known.items | made.items
                items = both if len(both) <= MAX_REMEMBERED_ITEMS else made.items
                self.lists[place] = RememberedList(known.list_id, known.event_time_ms, items)
                return False
        if len(self.lists) == REMEMBERED_LISTS and made.event_time_ms <= self.lists[0].event_time_ms:
            return False
        self.lists.append(made)
        self.lists.sort(key=lambda each: each.event_time_ms)
        del self.lists[:-REMEMBERED_LISTS]
        return True

    def followed(self, event: Event, *, window_ms: int) -> str | None:
        """Return the id of the list that an event is attributed to.

        That is the list named by the event, else the latest list made before the event, if it contains the item and is
        not older than the window. Times are event times, so that a replay of old data is attributed as it happened.
        Events that arrive before their list are not attributed to it.
        """
        if event.list_id:
            return event.list_id
        for made in reversed(self.lists):
            if made.event_time_ms < event.event_time_ms:
                in_time = event.event_time_ms - made.event_time_ms <= window_ms
                return made.list_id if in_time and item_hash(event.item_id) in made.items else None
        return None


def item_hash(item_id: str) -> int:
    """Return a 32-bit hash of an item.

    Hashes keep the remembered lists of a hundred items small; two items collide once in four billion.
    """
    return crc32(item_id.encode())


def item_hashes(item_ids: Iterable[str]) -> frozenset[int]:
    """Return the hashes of the items of a list."""
    return frozenset(map(item_hash, item_ids))


def day_of(event_time_ms: int, zone: tzinfo = UTC) -> int:
    """Return the day of an instant in a time zone, in days since 1970.

    Examples
    --------
    >>> from zoneinfo import ZoneInfo
    >>> day_of(86_399_999), day_of(86_400_000), day_of(82_800_000, ZoneInfo("Europe/Berlin"))
    (0, 1, 1)
    """
    if zone is UTC:  # the common case, at a tenth of the cost
        return event_time_ms // DAY_MS
    instant = _EPOCH + timedelta(milliseconds=event_time_ms)
    try:
        return instant.astimezone(zone).toordinal() - _EPOCH.toordinal()
    except OverflowError:  # the last hours of the year 9999
        return event_time_ms // DAY_MS


def is_over(day: date, active_days: Sequence[date]) -> bool:
    """Return whether a day is over according to the events: somebody was active on a later day, soon after.

    Parameters
    ----------
    active_days
        Days with any activity, ascending.

    Examples
    --------
    >>> days = [date(2023, 1, 1), date(2023, 1, 3), date(2026, 1, 1)]
    >>> [is_over(date(2023, 1, day), days) for day in (1, 2, 3, 4)]
    [True, True, False, False]
    """
    later = bisect_right(active_days, day)
    return later < len(active_days) and active_days[later] - day <= timedelta(days=REACH_DAYS)


def active_users(runs: Iterable[tuple[date, int, int]], *, length_days: int) -> dict[date, int]:
    """Count the distinct users in the `length_days` days up to each day with any activity.

    A user counts from an active day until `length_days` have passed or the next active day takes over: the cumulative
    sum of starts and ends per day gives all days at once.

    Parameters
    ----------
    runs
        A day, the number of days to the next active day (or a larger number than requested), and the number of such
        users.

    Examples
    --------
    >>> runs = [(date(2024, 1, 1), 30, 2), (date(2024, 1, 1), 3, 1), (date(2024, 1, 4), 30, 1)]
    >>> list(active_users(runs, length_days=1).values()), list(active_users(runs, length_days=7).values())
    ([3, 1], [3, 3])
    """
    days: set[date] = set()
    change: Counter[date] = Counter()
    for day, gap_days, users in runs:
        days.add(day)
        change[day] += users
        change[day + timedelta(days=min(gap_days, length_days))] -= users
    ordered = sorted(change)
    running = zip(ordered, accumulate(change[day] for day in ordered), strict=True)
    return {day: count for day, count in running if day in days}


def share(part: int, whole: int) -> float | None:
    """Return a share, or `None` if the total is 0.

    Examples
    --------
    >>> share(1, 4), share(0, 0)
    (0.25, None)
    """
    return part / whole if whole else None
