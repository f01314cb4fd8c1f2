"""Retention and attribution: who came back, and which lists were followed.

A user's day is the day of the event time in the time zone of the reports. Day n of a user is n days after the first
day; a cohort is all users of one first day. References: the classic (day n) and the rolling (day n or later) definition
of retention as product analytics has them, and stickiness as daily over monthly active users.
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
"""Events more than so many days after a day say nothing about whether that day was recorded to its end: a single event
of another year does not make all that lies between into days on which nobody came back."""

REMEMBERED_LISTS = 3
"""So many of a user's newest lists are remembered: a list of the same name among them is a second copy."""


MAX_REMEMBERED_ITEMS = 1_000
"""Of a list that was made again the items of all its forms are remembered up to so many, then those of the newest."""


@dataclass(frozen=True, slots=True)
class RememberedList:
    """A list as attribution knows it.

    Parameters
    ----------
    list_id
        Its name.
    event_time_ms
        Event time of the newest event that it knew of: what happened later may have followed it.
    items
        Hashes of its items.
    """

    list_id: str
    event_time_ms: int
    items: frozenset[int]


@dataclass(slots=True)
class UserRetention:
    """What retention keeps of one user, beside a row for each active day.

    Parameters
    ----------
    first_day, last_day
        Days since 1970 of the first and the last activity, by event time; `None` before any.
    recent_ids
        By source partition, what is remembered of the last event ids, oldest first: the same rule for duplicates as the
        interest state has.
    lists
        The newest lists, oldest first, at most `REMEMBERED_LISTS`.

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
        """Let one event in, which happened on a day of a time zone; answer whether it is new."""
        if event.id_hash is not None:
            recent = self.recent_ids.setdefault(event.source, [])
            if take_note(event, recent) is not Sighting.NEW:
                return False
        day = day_of(event.event_time_ms, zone)
        self.first_day = day if self.first_day is None else min(day, self.first_day)
        self.last_day = day if self.last_day is None else max(day, self.last_day)
        return True

    def remember(self, made: RememberedList) -> bool:
        """Take note of a list; answer whether it is a new one.

        One that is older than all that are remembered came before them: lists that are made again from an old log,
        after a store was lost, count once.
        """
        for place, known in enumerate(self.lists):
            if known.list_id == made.list_id:
                # made again from the same state: the user may have been shown either
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
        """Return the list that an event followed.

        That is the list which the event names; else the newest one that was made before the event happened, if it holds
        the item and is not older than the window. Times are event times, so that a replay of old data is attributed as
        it happened. A list that arrives here after the event it would explain gets no credit.
        """
        if event.list_id:
            return event.list_id
        for made in reversed(self.lists):
            if made.event_time_ms < event.event_time_ms:
                in_time = event.event_time_ms - made.event_time_ms <= window_ms
                return made.list_id if in_time and item_hash(event.item_id) in made.items else None
        return None


def item_hash(item_id: str) -> int:
    """Return 32 bits that stand for an item.

    Lists of a hundred items are remembered for every user; another item has the same bits once in four billion.
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
    if zone is UTC:  # the common case, for a tenth of the cost
        return event_time_ms // DAY_MS
    instant = _EPOCH + timedelta(milliseconds=event_time_ms)
    try:
        return instant.astimezone(zone).toordinal() - _EPOCH.toordinal()
    except OverflowError:  # the last hours of the year 9999
        return event_time_ms // DAY_MS


def is_over(day: date, active_days: Sequence[date]) -> bool:
    """Return whether a day is over as far as the events tell: somebody was active on a later one, soon after.

    Parameters
    ----------
    active_days
        Days on which anybody was active, ascending.

    Examples
    --------
    >>> days = [date(2023, 1, 1), date(2023, 1, 3), date(2026, 1, 1)]
    >>> [is_over(date(2023, 1, day), days) for day in (1, 2, 3, 4)]
    [True, True, False, False]
    """
    later = bisect_right(active_days, day)
    return later < len(active_days) and active_days[later] - day <= timedelta(days=REACH_DAYS)


def active_users(runs: Iterable[tuple[date, int, int]], *, length_days: int) -> dict[date, int]:
    """Count the different users of the `length_days` days up to each day on which anybody was active.

    A user counts from an active day on until the days since then are as many as `length_days`, or until the next active
    day takes over: what begins and ends on each day, summed up, is the answer for all days at once.

    Parameters
    ----------
    runs
        A day, the days to the next active day (or more than anybody asks for), and the number of such users.

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
    """Return a share, or `None` of nothing.

    Examples
    --------
    >>> share(1, 4), share(0, 0)
    (0.25, None)
    """
    return part / whole if whole else None
