"""`streamrec demo`: the whole pipeline on this machine, and what it does, in less than two minutes."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from streamrec.adapters.event_files import EventFile, read_items
from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.kafka.lag import read_lag
from streamrec.adapters.postgres import RetentionReader
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.event_source import EventSource, reads_events, say_what_became
from streamrec.cli.lag import lag_table
from streamrec.cli.output import DataTable, Json, console, print_json, progress_bar, say
from streamrec.cli.retention import retention_tables
from streamrec.cli.topk import list_table
from streamrec.contracts.incoming import Click
from streamrec.errors import UsageError
from streamrec.playback.demonstration import CHANGE_S, Change, Demonstration, Figures
from streamrec.playback.records import publish_items
from streamrec.playback.turns import file_turns, shop_turns
from streamrec.settings import Settings
from streamrec.simulated_shop import SimulatedShop

FAST_UNTIL_S = 92.0
"""The fast part is over by then, counted from the start, which leaves time for the rest within two minutes."""

DEFAULT_LIMIT = 100_000
SEED = 1
EVENTS_PER_S = 200.0
"""Rate at which freshness is measured."""

EVENTS_PER_VISIT = 4
TOP_K = 50
SHOWN_ITEMS = 5


@reads_events(
    Annotated[Path | None, typer.Option("--data", help="Play a file of past events, as `replay` reads it.")], None
)
def demo(
    source: EventSource | None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows to play.")] = DEFAULT_LIMIT,
    data_dir: Annotated[Path | None, typer.Option(help="Directory for all data; temporary by default.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Keep running until Ctrl-C after the last figure.")] = False,
    attach: Annotated[bool, typer.Option("--attach", help="Use servers and workers that are already running.")] = False,
    as_json: Json = False,
) -> None:
    """Demonstrate the whole pipeline on real servers, with events of a simulated shop or of a file.

    Each user's list is read just before the user acts and scored by what the user does, beside recent popularity on the
    same events. Then the freshness of lists is measured at a steady rate, one list is shown before and after an event,
    and the counts of the broker are compared with those of the stores. The exit code is 0 only if they agree and no
    record waits.

    Examples: streamrec demo; streamrec demo --data events.parquet --limit 50000 --json; streamrec demo --serve;
    streamrec demo --attach
    """
    if attach and (data_dir or serve):
        raise UsageError("--attach excludes --data-dir and --serve: nothing is started here")
    started_s = time.monotonic()
    # SIGTERM leaves the same way as Ctrl-C: servers are stopped, and the temporary directory is removed
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    file = source.open() if source else None
    with ExitStack() as cleanup:
        settings, broker = (resolved_settings(), "external") if attach else _start(cleanup, data_dir)
        demonstration = _prepare(settings, file, limit)
        change = _play(demonstration, started_s)
        say("waiting until no worker has any lag")
        lag = demonstration.wait_for_no_lag()
        figures = demonstration.figures(broker, lag, time.monotonic() - started_s)
        if as_json:
            print_json(figures)
        else:
            _show(settings, change, figures)
            say_what_became([file.tally] if file else [])
        if serve:
            _serve(settings)
    if file is not None:
        file.tally.check(file.path)
    sys.exit(0 if figures.adds_up else 1)


def _start(cleanup: ExitStack, data_dir: Path | None) -> tuple[Settings, str]:
    """Start servers and workers, and return the settings with their addresses, and which Kafka it is."""
    local = import_module("streamrec.local")  # whose packages the container image does without
    directory = data_dir or Path(cleanup.enter_context(TemporaryDirectory(prefix="streamrec-demo-")))
    say("starting servers")
    stack = cleanup.enter_context(local.local_stack(_demo_settings(directory), progress=True, memory_broker_ok=True))
    say(f"starting workers beside {stack.broker}")
    cleanup.enter_context(local.Supervisor(stack, stack.settings.data_dir / "logs")).wait_until_started(say)
    return stack.settings, stack.broker


def _demo_settings(directory: Path) -> Settings:
    settings = Settings.from_env(installation="")
    # events come a thousand times faster than they happened, and nobody looks at more than the top of a list
    top_k = settings.top_k if "top_k" in settings.model_fields_set else TOP_K
    return settings.model_copy(update={"data_dir": directory, "top_k": top_k})


def _prepare(settings: Settings, file: EventFile | None, limit: int) -> Demonstration:
    if file is None:
        shop = SimulatedShop(SEED)
        return Demonstration(settings, shop_turns(shop), len(shop), turns_per_s=EVENTS_PER_S / EVENTS_PER_VISIT)
    items = iter(()) if file.items_path is None else read_items(file.items_path)
    category_of = publish_items(items, KafkaPublisher(settings.require_kafka()))
    turns = file_turns(file, limit=limit, category_of=category_of)
    return Demonstration(settings, turns, min(limit, file.rows), turns_per_s=EVENTS_PER_S)


def _play(demonstration: Demonstration, started_s: float) -> Change | None:
    with progress_bar() as bar:
        task = bar.add_task("playing", total=demonstration.fast_turns, rate="")

        def report(played: int) -> None:
            rate = demonstration.player.events / (time.monotonic() - playing_s)
            bar.update(task, completed=played, rate=f"{rate:,.0f} events/s")

        playing_s = time.monotonic()
        demonstration.play_fast(started_s + FAST_UNTIL_S, report)
    say(f"played {demonstration.player.events:,} events in {time.monotonic() - playing_s:.0f} s")
    telling = demonstration.take_telling_turn()
    say(f"measuring freshness at {EVENTS_PER_S:.0f} events/s")
    demonstration.play_steadily()
    return None if telling is None else demonstration.show_change(telling)


def _show(settings: Settings, change: Change | None, figures: Figures) -> None:
    output = console()
    for table in retention_tables(RetentionReader(settings.require_postgres_url()).report()):
        output.print(table)
    output.print(lag_table(read_lag(settings.require_kafka())))
    if change is not None:
        output.print(_change_table(change))
    summary = DataTable(title="What happened", title_justify="left", show_header=False)
    for name, value in _summary(figures).items():
        summary.add_row(name, value)
    output.print(summary)


def _change_table(change: Change) -> DataTable:
    event = change.event.message
    verb = "clicked" if isinstance(event, Click) else "bought"
    after = (
        f"the list did not change within {CHANGE_S:.0f} s"
        if change.after is None
        else f"the new list was in Redis {change.delay_ms} ms later"
    )
    title = f"{event.user_id} {verb} {event.item_id}: {after}"
    table = DataTable(
        title=title, title_justify="left", box=None, show_header=False, show_edge=False, pad_edge=False, padding=(0, 2)
    )
    lists = [list_table(change.before, SHOWN_ITEMS, title="before")]
    if change.after is not None:
        lists.append(list_table(change.after, SHOWN_ITEMS, title="after"))
    table.add_row(*lists)
    return table


def _summary(figures: Figures) -> dict[str, str]:
    adds_up = "" if figures.adds_up else ": THIS DOES NOT ADD UP"
    return {
        "broker": figures.broker,
        "events": f"{figures.consumed:,} consumed = {figures.applied:,} applied + {figures.duplicates:,} duplicates "
        f"+ {figures.dead_lettered:,} dead letters{adds_up}",
        "lag": f"{figures.lag:,}",
        "lists": f"{figures.lists_emitted:,}",
        "freshness": f"p50 {figures.freshness_p50_ms} ms, p99 {figures.freshness_p99_ms} ms from the production of an "
        f"event to its list on Kafka, at {figures.freshness_events_per_s:.0f} events/s",
        "hit rate at 10": f"{figures.hit_rate_at_10:.4f}; recent popularity {figures.popular_hit_rate_at_10:.4f} with "
        f"the best half-life, {figures.popular_half_life_h:g} h; on {figures.scored_events:,} events",
        "model": figures.model_version or "none yet",
        "took": f"{figures.seconds:.0f} s",
    }


def _serve(settings: Settings) -> None:
    say("still running until Ctrl-C; in another terminal:")
    say(f"  export STREAMREC_DATA_DIR={settings.data_dir}")
    say("  streamrec topk USER, streamrec lag, streamrec retention")
    import_module("streamrec.cli.up").stop_on_signals().wait()
