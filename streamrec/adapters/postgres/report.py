"""Retention reports from PostgreSQL; all figures are derived on reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from sqlalchemy import Connection, Row, and_, case, func, literal, select

from streamrec.adapters.postgres.engine import connect, translated_errors
from streamrec.adapters.postgres.tables import activity, calendar, counts, followed, users
from streamrec.domain.retention import RETENTION_DAYS, active_users, is_over, share

WEEK_DAYS = 7
MONTH_DAYS = 30

STATEMENT_TIMEOUT_MS = 300_000
"""A report reads all activity, which takes longer than a worker's statements."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day of activity, and the cohort of users whose first day it is.

    Parameters
    ----------
    day
        The day in ISO 8601.
    active_users, weekly_active_users, monthly_active_users
        Users active on this day, and in the 7 and the 30 days up to it.
    stickiness
        Daily over monthly active users.
    new_users
        Size of the cohort.
    day_1, day_7, day_30
        Share of the cohort active n days later; `None` until that day is over, according to the events.
    rolling_1, rolling_7, rolling_30
        Share of the cohort active n days later or on any day after.
    """

    day: str
    active_users: int
    weekly_active_users: int
    monthly_active_users: int
    stickiness: float | None
    new_users: int
    day_1: float | None
    day_7: float | None
    day_30: float | None
    rolling_1: float | None
    rolling_7: float | None
    rolling_30: float | None


@dataclass(frozen=True, slots=True)
class Arm:
    """Figures of an arm; a follow rate is attributed events over all events of the kind.

    `followed_lists` counts distinct clicked lists; a click may also name a list that was never published, so this is
    not a subset of `lists`.
    """

    arm: str
    users: int
    lists: int
    impressions: int
    followed_lists: int
    clicks: int
    purchases: int
    followed_clicks: int
    followed_purchases: int
    click_follow_rate: float | None
    purchase_follow_rate: float | None


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """Days, oldest first, arms, and time zone of the days."""

    days: list[Day]
    arms: list[Arm]
    time_zone: str = "UTC"


class RetentionReader:
    """Reads retention.

    Parameters
    ----------
    url
        Address of PostgreSQL.
    installation
        Name of the installation whose tables are read.
    """

    def __init__(self, url: str, *, installation: str = "") -> None:
        engine = connect(url, installation=installation, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
        # one snapshot for all statements, consistent despite concurrent writes
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def report(self, arm: str | None = None) -> RetentionReport:
        """Return all days, of one arm or of all, and the figures by arm.

        Raises
        ------
        TransientError
            If the server does not answer.
        """
        with translated_errors(), self._engine.connect() as connection:
            return RetentionReport(_days(connection, arm), _arms(connection), _time_zone(connection))


def _days(connection: Connection, arm: str | None) -> list[Day]:
    of_arm = literal(True) if arm is None else users.c.arm == arm
    in_arm = activity.join(users, users.c.user_id == activity.c.user_id)
    runs = _runs(connection, arm)
    if not runs:
        return []
    came_back = [
        func.count(case((activity.c.day == users.c.first_day + n, 1))).label(f"day_{n}") for n in RETENTION_DAYS
    ]
    returned = {
        row.first_day: row
        for row in connection.execute(
            select(users.c.first_day, *came_back).select_from(in_arm).where(of_arm).group_by(users.c.first_day)
        )
    }
    rolling = [
        func.count(case((users.c.last_day >= users.c.first_day + n, 1))).label(f"rolling_{n}") for n in RETENTION_DAYS
    ]
    cohorts = {
        row.first_day: row
        for row in connection.execute(
            select(users.c.first_day, func.count().label("size"), *rolling)
            .where(and_(of_arm, users.c.first_day.is_not(None)))
            .group_by(users.c.first_day)
        )
    }
    daily, weekly, monthly = (active_users(runs, length_days=length) for length in (1, WEEK_DAYS, MONTH_DAYS))
    active_days = sorted(connection.execute(select(activity.c.day).distinct()).scalars())
    day_n = partial(_share_on, active_days, cohorts)
    return [
        Day(
            day=day.isoformat(),
            active_users=daily[day],
            weekly_active_users=weekly[day],
            monthly_active_users=monthly[day],
            stickiness=share(daily[day], monthly[day]),
            new_users=cohorts[day].size if day in cohorts else 0,
            **{f"day_{n}": day_n(returned, day, n, f"day_{n}") for n in RETENTION_DAYS},
            **{f"rolling_{n}": day_n(cohorts, day, n, f"rolling_{n}") for n in RETENTION_DAYS},
        )
        for day in daily
    ]


def _share_on(
    active_days: Sequence[date],
    cohorts: dict[date, Row[tuple[date, int]]],
    found: dict[date, Row[tuple[date, int]]],
    day: date,
    n: int,
    column: str,
) -> float | None:
    """Return the share of a cohort in a column, unless its day n is not over yet."""
    if day not in cohorts or not is_over(day + timedelta(days=n), active_days):
        return None
    return share(getattr(found[day], column), cohorts[day].size)


def _time_zone(connection: Connection) -> str:
    return connection.execute(select(calendar.c.time_zone)).scalar() or "UTC"


def _runs(connection: Connection, arm: str | None) -> list[tuple[date, int, int]]:
    """Count users by day of activity and number of days until the next one, at most `MONTH_DAYS`."""
    next_day = func.lead(activity.c.day).over(partition_by=activity.c.user_id, order_by=activity.c.day)
    steps = (
        select(activity.c.day, func.least(next_day - activity.c.day, MONTH_DAYS).label("gap_days"))
        .select_from(activity.join(users, users.c.user_id == activity.c.user_id))
        .where(literal(True) if arm is None else users.c.arm == arm)
        .subquery()
    )
    found = connection.execute(
        select(steps.c.day, steps.c.gap_days, func.count()).group_by(steps.c.day, steps.c.gap_days)
    )
    return [(day, gap_days, count) for day, gap_days, count in found]


def _arms(connection: Connection) -> list[Arm]:
    members = {
        row.arm: row.members
        for row in connection.execute(
            select(users.c.arm, func.count().label("members"))
            .where(users.c.first_day.is_not(None))
            .group_by(users.c.arm)
        )
    }
    lists_followed = {
        row.arm: row.lists
        for row in connection.execute(select(followed.c.arm, func.count().label("lists")).group_by(followed.c.arm))
    }
    sums = [func.sum(column).label(column.name) for column in counts.columns if column.server_default is not None]
    return [
        Arm(
            arm=row.arm,
            users=members.get(row.arm, 0),
            followed_lists=lists_followed.get(row.arm, 0),
            **{column.name: int(getattr(row, column.name)) for column in sums},
            click_follow_rate=share(int(row.followed_clicks), int(row.clicks)),
            purchase_follow_rate=share(int(row.followed_purchases), int(row.purchases)),
        )
        for row in connection.execute(select(counts.c.arm, *sums).group_by(counts.c.arm).order_by(counts.c.arm))
    ]
