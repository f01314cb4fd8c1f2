"""`streamrec demo`: demonstrates the whole pipeline on this machine in a few minutes."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from streamrec.adapters.event_files import EventFile, read_items
from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.postgres import RetentionReader
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.demo_tables import change_table, figures_table, hit_rate_table, next_table, retention_table
from streamrec.cli.event_source import EventSource, reads_events, say_what_became
from streamrec.cli.output import Json, console, print_json, progress_bar, say
from streamrec.errors import UsageError
from streamrec.playback.demonstration import Change, Demonstration, Figures, Report
from streamrec.playback.records import publish_items
from streamrec.playback.turns import file_turns, shop_turns
from streamrec.settings import Settings
from streamrec.simulated_shop import SimulatedShop

DEFAULT_LIMIT = 100_000
EVENTS_PER_S = 200.0
"""Rate at which freshness is measured."""

EVENTS_PER_VISIT = 4
TOP_K = 50
DAY_MS = 86_400_000


@reads_events(
    Annotated[Path | None, typer.Option("--data", help="Play a file of past events; see `streamrec replay`.")], None
)
def demo(  # noqa: PLR0913, PLR0917  # options of a command
    source: EventSource | None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows to play.")] = DEFAULT_LIMIT,
    seed: Annotated[int, typer.Option(help="Random seed of the simulated shop.")] = 1,
    data_dir: Annotated[Path | None, typer.Option(help="Directory for all data; temporary by default.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Keep running until Ctrl-C after the last figure.")] = False,
    attach: Annotated[bool, typer.Option("--attach", help="Use servers and workers that are already running.")] = False,
    as_json: Json = False,
) -> None:
    """Demonstrate the whole pipeline on real servers, with events of a simulated shop or of a file.

    The first two thirds of the events are history to learn from. Then each user's list is read just before the user
    acts and scored by what the user does, beside recent popularity, ten lines of code and, for the simulated shop, the
    best lists possible. The freshness of lists is measured at a steady rate, one list is shown before and after an
    event, and the counts of the broker are compared with those of the stores. The exit code is 0 only if they agree and
    no record waits.

    Examples: streamrec demo; streamrec demo --data events.parquet --limit 50000 --json; streamrec demo --serve;
    streamrec demo --attach; streamrec demo --seed 2
    """
    if attach and (data_dir or serve):
        raise UsageError("--attach cannot be combined with --data-dir and --serve: nothing is started here")
    started_s = time.monotonic()
    # SIGTERM is handled like Ctrl-C: servers are stopped, and the temporary directory is removed
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    file = source.open() if source else None
    with ExitStack() as cleanup:
        if attach:
            settings, broker = resolved_settings(), "external"
        else:
            settings, broker = _start(cleanup, data_dir, is_shop=file is None)
        demonstration = _prepare(settings, SimulatedShop(seed) if file is None else file, limit)
        change = _play(demonstration, "simulated shop" if file is None else file.path.name)
        say("waiting until every worker has processed everything")
        demonstration.wait_for_no_lag()
        figures = demonstration.figures(broker, time.monotonic() - started_s)
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


def _start(cleanup: ExitStack, data_dir: Path | None, *, is_shop: bool) -> tuple[Settings, str]:
    """Start servers and workers, and return the settings with their addresses, and which Kafka it is."""
    local = import_module("streamrec.local")  # the container image lacks its packages
    directory = data_dir or Path(cleanup.enter_context(TemporaryDirectory(prefix="streamrec-demo-")))
    settings = _demo_settings(directory, is_shop=is_shop)
    say("starting Kafka, Redis and PostgreSQL on this machine")
    stack = cleanup.enter_context(local.local_stack(settings, progress=True, memory_broker_ok=True))
    say("starting the workers interests, trainer, recall and retention")
    cleanup.enter_context(local.Supervisor(stack, stack.settings.data_dir / "logs")).wait_until_started(say)
    return stack.settings, stack.broker


def _demo_settings(directory: Path, *, is_shop: bool) -> Settings:
    settings = Settings.from_env(installation="")
    # users only look at the top of a list, and never twice at an item of the shop
    changes = {"top_k": TOP_K} | ({"hide_seen": True} if is_shop else {})
    unset = {name: value for name, value in changes.items() if name not in settings.model_fields_set}
    return settings.model_copy(update={"data_dir": directory, **unset})


def _prepare(settings: Settings, source: EventFile | SimulatedShop, limit: int) -> Demonstration:
    if isinstance(source, SimulatedShop):
        rate = EVENTS_PER_S / EVENTS_PER_VISIT
        return Demonstration(settings, shop_turns(source), len(source), turns_per_s=rate, say=say)
    items = iter(()) if source.items_path is None else read_items(source.items_path)
    category_of = publish_items(items, KafkaPublisher(settings.require_kafka()))
    turns = file_turns(source, limit=limit, category_of=category_of)
    return Demonstration(settings, turns, min(limit, source.rows), turns_per_s=EVENTS_PER_S, say=say)


def _play(demonstration: Demonstration, what: str) -> Change | None:
    player = demonstration.player
    say(f"playing the history of the {what}, without scoring")
    _with_bar("history", demonstration.history_turns, demonstration.play_history)
    history_ms = player.newest_ms
    say(f"played {player.events:,} events of {_days(history_ms - player.first_ms)}")
    say("waiting until the model has learned them and the lists are up to date")
    demonstration.rest()
    say("continuing; each list is scored by its user's next events. Days pass in")
    say("seconds here, so after each two the model and the lists get time to catch up")
    _with_bar("scored", demonstration.scored_turns, demonstration.play_scored)
    telling = demonstration.take_telling_turn()
    say(f"measuring freshness at {EVENTS_PER_S:.0f} events/s")
    demonstration.play_steadily()
    return None if telling is None else demonstration.show_change(telling)


def _with_bar(name: str, turns: int, play: Callable[[Report], None]) -> None:
    with progress_bar() as bar:
        task = bar.add_task(name, total=turns, rate="")
        play(lambda played: bar.update(task, completed=played))


def _days(duration_ms: int) -> str:
    return f"{duration_ms / DAY_MS:.0f} days"


def _show(settings: Settings, change: Change | None, figures: Figures) -> None:
    output = console()
    report = RetentionReader(settings.require_postgres_url()).report()
    tables = [hit_rate_table(figures), figures_table(figures), retention_table(report), next_table()]
    for table in ([] if change is None else [change_table(change)]) + tables:
        output.print(table)
        output.print()


def _serve(settings: Settings) -> None:
    say("still running until Ctrl-C; in another terminal:")
    say(f"  export STREAMREC_DATA_DIR={settings.data_dir}")
    say("  streamrec topk USER, streamrec lag, streamrec retention")
    import_module("streamrec.cli.up").stop_on_signals().wait()
