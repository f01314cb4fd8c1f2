"""`streamrec lists`: the state of stored lists, and rebuilding them."""

from __future__ import annotations

import time

import typer

from streamrec.adapters.redis import RedisListMarks
from streamrec.adapters.redis.list_scan import ListScan, Scanned
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar
from streamrec.errors import UsageError
from streamrec.monitor.lists import Lists
from streamrec.monitor.words import duration

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show which stored lists wait to be rebuilt, or rebuild outdated ones.",
)


@app.command("status")
def status(as_json: Json = False) -> None:
    """Print how many lists wait to be rebuilt and why, how many are short, and what the serving version has learned.

    Examples: streamrec lists status; streamrec lists status --json
    """
    lists = _look()
    if as_json:
        print_json({"facts": lists.facts, "census": lists.census, "short_share": lists.short_share})
        return
    console().print(_table(lists))


@app.command("rebuild")
def rebuild(as_json: Json = False) -> None:
    """Mark every list to be rebuilt that is short or was not made by the serving version.

    The scan reads a few thousand lists per second; `recall` rebuilds them in the background, the most recently active
    users first. Watch the progress with `streamrec lists status`. The scan can be interrupted and restarted.

    Examples: streamrec lists rebuild; streamrec lists rebuild --json
    """
    settings, facts = resolved_settings(), _look().facts
    scan = ListScan(settings.require_redis_url(), installation=settings.installation)
    done, begun_s = Scanned(0, 0), time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task("lists", total=None, rate="")
        for done in scan.run(facts):
            bar.update(task, completed=done.lists, rate=f"{done.lists / (time.monotonic() - begun_s):,.0f} lists/s")
    if as_json:
        print_json(done._asdict())
    else:
        console().print(f"{done.marked:,} of {done.lists:,} lists are marked; see `streamrec lists status`")


def _look() -> Lists:
    settings = resolved_settings()
    marks = RedisListMarks(settings.require_redis_url(), installation=settings.installation)
    facts = marks.facts()
    if not facts.top_k:
        raise UsageError("no lists yet: `recall` has not run, or no event has arrived")
    return Lists(facts, marks.count(facts))


def _table(lists: Lists) -> DataTable:
    facts, census = lists
    table = DataTable("lists", show_header=False)
    table.add_column(justify="right")
    share = "-" if lists.short_share is None else f"{100 * lists.short_share:.1f} %"
    for name, value in (
        ("waiting to be rebuilt", f"{census.waiting:,}"),
        ("waiting for", duration(waiting_s) if (waiting_s := lists.waiting_s(time.time())) is not None else "-"),
        ("made by a version that lacked events", f"{census.poor:,}"),
        ("made by an outdated version", f"{census.far:,}"),
        ("shorter than they could be", f"{census.short:,}"),
        (f"shorter than {facts.top_k} items", share),
        ("serving version", facts.version or "none yet"),
        ("events learned", f"{facts.events:,}"),
        ("events not learned yet", f"{facts.lacking:,}"),
        ("items it knows", f"{facts.known_items:,}"),
        ("items known only from the stream or the catalogue", f"{facts.other_items:,}"),
    ):
        table.add_row(name, value)
    return table
