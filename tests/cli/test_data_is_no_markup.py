"""What records, files and servers say is printed as it is: never markup, never a control of the terminal."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from streamrec import cli, logs
from streamrec.adapters.event_files import Example, FileTally
from streamrec.adapters.kafka.dead_letters import DeadLetter
from streamrec.adapters.postgres.report import Arm, Day, RetentionReport
from streamrec.cli import dlq, event_source, lag, model, output, replay, retention, status, topics, topk
from streamrec.cli.app import main
from streamrec.cli.evaluation import plot
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.contracts.model_version import ModelVersion, ModelVersions
from streamrec.monitor.readiness import Cause
from streamrec.service.batch import Record, TopicPartition

HOSTILE = "[/kitchen] pan [red]x :smile: \x1b[31mred\x1b]0;title\x07 \u202eesrever\x9b2J a\rb\nc"
SHOWN = r"[/kitchen] pan [red]x :smile: \x1b[31mred\x1b]0;title\x07 \u202eesrever\x9b2J a\rb\nc"
NOON_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("STREAMREC_KAFKA", "nowhere:9092")
    monkeypatch.setenv("STREAMREC_REDIS_URL", "redis://nowhere/0")
    monkeypatch.setenv("STREAMREC_POSTGRES_URL", "postgresql://nowhere/x")
    monkeypatch.setenv("STREAMREC_DATA_DIR", str(tmp_path))


def rendered(*renderables):
    """Return what a terminal would get."""
    stream = io.StringIO()
    console = output.DataConsole(file=stream, width=1_000)
    console._force_terminal = True  # rich then colours, which data must not
    for renderable in renderables:
        console.print(renderable)
    return stream.getvalue()


def is_harmless(text):
    """Tell whether a text holds no control but line ends and rich's own colours."""
    left = re.sub(r"\x1b\[[\d;]*m", "", text).replace("\n", "")
    return not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", left)


def a_list():
    return TopKList(
        state_version=1,
        list_id=HOSTILE,
        user_id=HOSTILE,
        items=ListedItems.of([ListItem(HOSTILE, 0.5, Reason("model", HOSTILE))]),
        model_version=HOSTILE,
        arm=HOSTILE,
        event_time_ms=NOON_MS,
        produced_at_ms=NOON_MS,
        made_at_ms=NOON_MS,
    )


VERSION = ModelVersion(
    name=HOSTILE,
    made_at_ms=NOON_MS,
    events=1,
    status="good",
    loss=None,
    checkpoint=1,
    went_on_from="",
    because=HOSTILE,
)
LETTER = DeadLetter(
    TopicPartition("clicks.dlq", 0),
    Record(0, NOON_MS, HOSTILE.encode(), HOSTILE.encode(), {"dlq.reason": HOSTILE.encode(), HOSTILE: HOSTILE.encode()}),
)
GROUP = SimpleNamespace(name=HOSTILE, members=1, lag=0, behind_s=0.0, lost=0)
PART = SimpleNamespace(group=HOSTILE, topic=HOSTILE, partition=0, committed=None, end=1, lag=1, behind_s=None)


def a_report():
    day = Day(HOSTILE, 1, 1, 1, 1.0, 1, *[None] * 6)
    return RetentionReport([day], [Arm(HOSTILE, *[0] * 8, None, None)])


def a_tally():
    tally = FileTally()
    tally.count(tally.refused, HOSTILE, lambda: Example(row=1, column=HOSTILE, value=HOSTILE, detail=HOSTILE))
    return tally


TABLES = {
    "topk": lambda: [topk.list_table(a_list(), 10, title=topk.list_title(a_list(), HOSTILE))],
    "lag": lambda: [lag.lag_table([PART]), lag.watched([PART] * 9, 8)],
    "status": lambda: [status.group_table([GROUP])],
    "retention": lambda: retention.retention_tables(a_report()),
    "model": lambda: [model._table(ModelVersions(versions=[VERSION], refused=0, rolled_back=0, drifts=0))],
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_shows_data_unchanged(name):
    text = rendered(*TABLES[name]())

    assert SHOWN in text
    assert is_harmless(text)


def shown_by(arguments, capsys, code=0):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    assert exit_info.value.code == code, captured.err
    assert is_harmless(captured.out + captured.err)
    return captured.out + captured.err


def test_topk_of_anybody_prints_any_item(monkeypatch, capsys):
    monkeypatch.setattr(topk, "TopKReader", lambda *_, **__: SimpleNamespace(read=lambda _user: a_list()))

    assert SHOWN in shown_by(["topk", "[/u]"], capsys)
    assert json.loads(shown_by(["topk", "[/u]", "--json"], capsys))["items"][0]["item_id"] == HOSTILE


@pytest.mark.parametrize("arguments", [["dlq", "list"], ["dlq", "show", "clicks.dlq:0:0"]])
def test_dead_letters_are_shown_unchanged(arguments, monkeypatch, capsys):
    monkeypatch.setattr(dlq, "read_dead_letters", lambda _access: iter([LETTER]))

    assert SHOWN in shown_by(arguments, capsys)
    shown_by([*arguments, "--json"], capsys)


def test_status_and_topics_show_what_servers_say(monkeypatch, capsys):
    cause = Cause("fault", "Kafka", HOSTILE, HOSTILE)
    seen = SimpleNamespace(
        causes=[cause],
        warnings=[Cause("dead-letters", "interests", HOSTILE, HOSTILE)],
        groups=[GROUP],
        verdict={},
        refused={HOSTILE: 1},
        refused_are_all=True,
        restarts={HOSTILE: 1},
    )
    monkeypatch.setattr(status, "look_once", lambda _settings: seen)
    monkeypatch.setattr(
        topics, "read_topics", lambda _access: [SimpleNamespace(topic=HOSTILE, partitions=1, records=0)]
    )

    assert shown_by(["status"], capsys, 1).count("[/kitchen] pan [red]x :smile: ") == 7
    assert SHOWN in shown_by(["topics"], capsys)


def test_an_error_a_progress_text_and_a_note_are_data(capsys):
    with output.progress_bar() as bar:
        bar.add_task(HOSTILE, total=1, rate=HOSTILE)
    output.say(HOSTILE)
    event_source.say_what_became([a_tally()])
    bar.console.print(HOSTILE)
    captured = capsys.readouterr()

    assert is_harmless(captured.out + captured.err)
    assert captured.err.count(SHOWN) >= 4
    assert "[/kitchen] pan" in shown_by(["topk", "u", f"--{HOSTILE}"], capsys, 2)


def test_what_a_replay_says_is_data():
    played = replay.Played(published={HOSTILE: 1}, skipped=a_tally().skipped, dropped={}, examples={}, items_skipped={})
    text = rendered(replay._said(played))

    assert "[/kitchen] pan [red]x :smile:" in text
    assert is_harmless(text)


@pytest.mark.parametrize("configure", [logs.configure_command, lambda: logs.configure("INFO", worker="test")])
def test_lines_for_people_show_data_unchanged(configure, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", stream)
    configure()
    try:
        structlog.get_logger("x").warning(HOSTILE, item_id=HOSTILE, error=ValueError(HOSTILE))
        structlog.get_logger("x").error("failed", exc_info=ValueError(HOSTILE))
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
    written = stream.getvalue()

    assert written.count(SHOWN) >= 2
    assert "ValueError: [/kitchen] pan" in written
    assert is_harmless(written)


def test_no_command_has_a_console_or_a_table_of_its_own():
    modules = {
        (path.name, found)
        for path in Path(cli.__file__).parent.rglob("*.py")
        for found in re.findall(r"(?m)^(?:from|import) (rich\S*)", path.read_text())
        if path.name != "output.py"
    }

    assert modules == {("lag.py", "rich.live")}


def test_a_title_of_a_plot_is_no_formula(tmp_path):
    window = SimpleNamespace(from_ms=NOON_MS, to_ms=NOON_MS + 1, ndcg_at_10=0.1, baselines={"a": 0.1}, new_item_share=0)
    plot.plot_windows(
        SimpleNamespace(windows=[window], baselines={"a": 0.1}), tmp_path / "x.png", title=r"events$\frac{.csv $_"
    )

    assert (tmp_path / "x.png").stat().st_size
