"""What the demo prints fits into eighty columns, whole, and is short."""

from __future__ import annotations

import io

import pytest

from streamrec.adapters.postgres import RetentionReport
from streamrec.adapters.postgres.report import Day
from streamrec.cli.demo_tables import COLUMNS, change_table, figures_table, hit_rate_table, next_table, retention_table
from streamrec.cli.output import DataConsole
from streamrec.cli.topk import because
from streamrec.contracts.derived import TopKList
from streamrec.contracts.incoming import Purchase
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.playback.demonstration import Change, Figures
from streamrec.playback.turns import PlayedEvent

NOON_MS = 1_760_000_000_000

REASONS = [
    Reason("category", "i10234"),
    Reason("neighbour", "i10234"),
    Reason("session", "i10234"),
    Reason("model", "i10234"),
    Reason("popular"),
    Reason("recent"),
]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason("session", "i1"), "in visits with i1"),
        (Reason("newest", "i1"), "newest: i1"),
        (Reason("newest"), "seen before, or new in the catalogue"),
        (Reason("popular"), "popular now"),
    ],
)
def test_reasons_are_words(reason, words):
    assert because(reason) == words


def a_list(first):
    items = [ListItem(f"i{first + n}", -1.5, reason) for n, reason in enumerate([*REASONS, *REASONS])]
    return TopKList(
        state_version=6,
        list_id="l1",
        user_id="u1234",
        items=ListedItems.of(items),
        model_version="ab12cd34-1234",
        arm="personal",
        event_time_ms=NOON_MS,
        produced_at_ms=NOON_MS,
        made_at_ms=NOON_MS,
    )


def figures(**fields):
    return Figures(
        **{
            "broker": "apache-kafka 3.9.1",
            "consumed": 123_456,
            "applied": 123_454,
            "duplicates": 1,
            "dead_lettered": 1,
            "lag": 0,
            "lists_emitted": 223_456,
            "freshness_p50_ms": 12.3,
            "freshness_p99_ms": 123.4,
            "freshness_events_per_s": 199.7,
            "hit_rate_at_10": 0.4061,
            "yardstick_hit_rate_at_10": 0.4119,
            "oracle_hit_rate_at_10": 0.6541,
            "popular_hit_rate_at_10": 0.0571,
            "popular_half_life_h": 24.0,
            "scored_events": 12_345,
            "model_version": "ab12cd34-1234",
            "days": [],
            "seconds": 118.4,
        }
        | fields
    )


def a_day(number):
    shares = {f"{kind}_{n}": 0.421 if number % 2 else None for kind in ("day", "rolling") for n in (1, 7, 30)}
    return Day(
        day=f"2025-01-{number:02}",
        active_users=12,
        weekly_active_users=34,
        monthly_active_users=56,
        stickiness=0.2,
        new_users=1_234,
        **shares,
    )


def change(after):
    message = Purchase(user_id="u1234", item_id="i10234", event_time_ms=NOON_MS)
    return Change(event=PlayedEvent(message, scored=True), before=a_list(10_000), after=after, delay_ms=123.4)


TABLES = {
    "change": lambda: change_table(change(a_list(20_000))),
    "no change": lambda: change_table(change(None)),
    "hit rates": lambda: hit_rate_table(figures()),
    "hit rates of a file": lambda: hit_rate_table(figures(oracle_hit_rate_at_10=None)),
    "figures": lambda: figures_table(figures()),
    "figures that do not add up": lambda: figures_table(figures(lag=3)),
    "retention": lambda: retention_table(RetentionReport([a_day(n) for n in range(1, 31)], [])),
    "next": next_table,
}


def lines_of(name):
    output = io.StringIO()
    DataConsole(file=output, width=COLUMNS).print(TABLES[name]())
    return output.getvalue().splitlines()


@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_cut_and_no_cell_is_broken(name):
    wide = io.StringIO()
    DataConsole(file=wide, width=1_000).print(TABLES[name]())

    assert max(map(len, lines_of(name))) <= COLUMNS
    assert "…" not in "".join(lines_of(name))
    assert len(lines_of(name)) == len(wide.getvalue().splitlines()), "a cell that does not fit takes another line"


def test_all_of_it_is_short():
    shown = ("change", "hit rates", "figures", "retention", "next")

    assert sum(len(lines_of(name)) for name in shown) <= 45


def test_figures_say_when_they_do_not_add_up():
    assert not any("ADD UP" in line for line in lines_of("figures"))
    assert any("THIS DOES NOT ADD UP" in line for line in lines_of("figures that do not add up"))


def test_a_file_has_no_best_lists():
    assert any("65.4 %" in line for line in lines_of("hit rates"))
    assert len(lines_of("hit rates of a file")) == len(lines_of("hit rates")) - 1


def test_the_first_days_are_shown_with_dates_that_are_whole():
    lines = lines_of("retention")

    assert "first 8 of 30 days" in lines[0]
    assert lines[2].startswith("2025-01-01")
    assert lines[-1].startswith("2025-01-08")
