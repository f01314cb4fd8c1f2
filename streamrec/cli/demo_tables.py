"""Tables of the demo's results, in 80 columns and without jargon."""

from __future__ import annotations

from streamrec.adapters.postgres import RetentionReport
from streamrec.cli.output import DataTable
from streamrec.cli.retention import percent
from streamrec.cli.topk import because
from streamrec.contracts.incoming import Click
from streamrec.playback.demonstration import CHANGE_S, Change, Figures

SHOWN_ITEMS = 5
SHOWN_DAYS = 8

COLUMNS = 80


def change_table(change: Change) -> DataTable:
    """Return a user's list before and after one event."""
    event = change.event.message
    verb = "clicked" if isinstance(event, Click) else "bought"
    after = (
        f"the list did not change within {CHANGE_S:.0f} s"
        if change.after is None
        else f"{change.delay_ms:.0f} ms later the new list was in Redis"
    )
    now = change.after or change.before
    table = _table(
        "", "before", "after", "why it is in the list now", title=f"{event.user_id} {verb} {event.item_id}: {after}"
    )
    for rank, (old, new) in enumerate(zip(change.before.items, now.items, strict=False), start=1):
        if rank > SHOWN_ITEMS:
            break
        table.add_row(str(rank), old.item_id, new.item_id, because(new.reason))
    return table


def hit_rate_table(figures: Figures) -> DataTable:
    """Return the hit rates of lists and baselines."""
    asked = f"share of {figures.scored_events:,} clicks and purchases that were on a user's top ten"
    table = _table(asked, "hit rate", title="How good are the lists?")
    table.columns[1].justify = "right"
    for name, share in (
        ("streamrec's lists, as an application reads them", figures.hit_rate_at_10),
        ("what is popular now, the same list for everybody", figures.popular_hit_rate_at_10),
        ("ten lines of code: what is popular in the user's latest categories", figures.yardstick_hit_rate_at_10),
        ("an oracle: the best lists possible, knowing every user's taste", figures.oracle_hit_rate_at_10),
    ):
        if share is not None:
            table.add_row(name, percent(share))
    return table


def figures_table(figures: Figures) -> DataTable:
    """Return freshness, lag and outcomes of events."""
    table = _table("", "", title="How fast was it, and was anything lost?")
    table.show_header = False
    became = (
        f"{figures.consumed:,} in Kafka = {figures.applied:,} applied + {figures.duplicates:,} duplicates "
        f"+ {figures.dead_lettered:,} refused"
    )
    rows = [
        ("freshness", f"{figures.freshness_p50_ms} ms from an event to the user's new list;"),
        ("", f"99 of 100 lists within {figures.freshness_p99_ms} ms, at {figures.freshness_events_per_s:.0f} events/s"),
        ("lag", f"{figures.lag:,} events wait for a worker"),
        ("events", became),
        ("lists", f"{figures.lists_emitted:,} made; newest version of the model: {figures.model_version or 'none'}"),
        ("took", f"{figures.seconds:.0f} s, on {figures.broker}"),
    ]
    for name, value in rows if figures.adds_up else [*rows, ("", "THIS DOES NOT ADD UP")]:
        table.add_row(name, value)
    return table


def retention_table(report: RetentionReport) -> DataTable:
    """Return the retention of the first days."""
    table = _table(
        *("first visit", "users", "came back after 1 day", "after 7 days", "after 30 days"),
        title=f"Who came back? (the first {min(SHOWN_DAYS, len(report.days))} of {len(report.days)} days)",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for day in report.days[:SHOWN_DAYS]:
        table.add_row(day.day, str(day.new_users), *map(percent, (day.day_1, day.day_7, day.day_30)))
    return table


def next_table() -> DataTable:
    """Return what to try next."""
    table = _table("", "", title="What to try next")
    table.show_header = False
    for command, what in (
        ("streamrec demo --serve", "the same, and keep it running; meanwhile, elsewhere:"),
        ("  streamrec topk u42", "a user's list, and why each item is in it"),
        ("  streamrec retention", "all days, and how often lists were clicked"),
        ("streamrec demo --data FILE", "the same with your own events, CSV or Parquet"),
        ("streamrec up", "servers and workers for your own events"),
    ):
        table.add_row(command, what)
    return table


def _table(*headers: str, title: str) -> DataTable:
    # a title wraps at the width of its table
    table = DataTable(*headers, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.min_width = min(len(title), COLUMNS)
    return table
