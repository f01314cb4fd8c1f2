"""`streamrec retention`: user retention by cohort and by arm."""

from __future__ import annotations

from typing import Annotated

import typer

from streamrec.adapters.postgres import RetentionReader, RetentionReport
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import DataTable, Json, console, print_json
from streamrec.domain.arms import CONTROL, PERSONAL
from streamrec.errors import UsageError


def retention(
    arm: Annotated[str | None, typer.Option(help="Only the users of one arm, `personal` or `control`.")] = None,
    json: Json = False,
) -> None:
    """Show retention by cohort, daily, weekly and monthly active users, and figures by arm.

    Day n is the share of a cohort that came back n days after its first day; `-` until that day is over. Days are
    those of STREAMREC_TIME_ZONE.

    Example: streamrec retention --arm control
    """
    if arm not in {None, PERSONAL, CONTROL}:
        raise UsageError(f"unknown arm {arm!r}; choose from {PERSONAL}, {CONTROL}")
    settings = resolved_settings()
    reader = RetentionReader(settings.require_postgres_url(), installation=settings.installation)
    report = reader.report(arm)
    if json:
        print_json(report)
    else:
        for table in retention_tables(report):
            console().print(table)


def retention_tables(report: RetentionReport) -> tuple[DataTable, DataTable]:
    """Return the tables of cohorts and of arms."""
    days = DataTable(
        *("day", "DAU", "WAU", "MAU", "stickiness", "new", "day 1", "day 7", "day 30"),
        *("day 1+", "day 7+", "day 30+"),
        title=f"Retention by cohort, days in {report.time_zone}",
    )
    for day in report.days:
        days.add_row(
            day.day,
            *map(str, (day.active_users, day.weekly_active_users, day.monthly_active_users)),
            percent(day.stickiness),
            str(day.new_users),
            *map(percent, (day.day_1, day.day_7, day.day_30, day.rolling_1, day.rolling_7, day.rolling_30)),
        )
    arms = DataTable(
        *("arm", "users", "lists", "lists followed", "clicks", "followed", "purchases", "followed"),
        title="Lists clicked, by arm",
    )
    for arm in report.arms:
        arms.add_row(
            arm.arm,
            *map(str, (arm.users, arm.lists, arm.followed_lists, arm.clicks)),
            percent(arm.click_follow_rate),
            str(arm.purchases),
            percent(arm.purchase_follow_rate),
        )
    return days, arms


def percent(value: float | None) -> str:
    """Format a share for a table, `-` for `None`."""
    return "-" if value is None else f"{100 * value:.1f} %"
