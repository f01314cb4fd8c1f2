"""`streamrec replay` publishes what the decoder takes, says what it leaves out, and nothing counts twice."""

from __future__ import annotations

import json

import pytest
from doubles import MemoryPublisher

from streamrec.cli import replay
from streamrec.cli.app import main
from streamrec.contracts.decode import decode_event
from streamrec.domain.interest import FoldRules, InterestState, Outcome
from streamrec.service.ports import Outgoing

NOON_MS = 1_700_000_000_000
HEADER = "user_id,item_id,event_type,timestamp"


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Return what was published, by every replay of the test."""
    monkeypatch.setenv("STREAMREC_KAFKA", "nowhere:9092")
    monkeypatch.setenv("STREAMREC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    publisher = MemoryPublisher()
    monkeypatch.setattr(replay, "KafkaPublisher", lambda _access: publisher)
    return publisher.records


def run(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["replay", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def write(folder, *rows, header=HEADER):
    (folder / "events.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "events.csv"


def fold(records):
    """Fold records as `interests` does, and return what became of each."""
    state = InterestState()
    outcomes = []
    for offset, record in enumerate(records):
        event = decode_event((record.topic, 0), offset, NOON_MS, record.value, record.headers)
        outcomes.append(state.fold(event, FoldRules(50)))
    return outcomes


def test_a_rescue_by_replay_repeats_no_event_that_was_read(published, tmp_path, capsys):
    read = [
        json.dumps({"user_id": "rec", "item_id": f"i{n}", "event_time_ms": NOON_MS + n, "event_id": f"E{n}"})
        for n in range(3)
    ]
    path = write(tmp_path, *(f"rec,i{n},click,{NOON_MS + n},E{n}" for n in range(4)), header=f"{HEADER},event_id")
    code, _, _ = run([path], capsys)
    outcomes = fold([Outgoing("clicks", None, value.encode()) for value in read] + published)

    assert code == 0
    assert outcomes.count(Outcome.APPLIED) == 4
    assert outcomes.count(Outcome.DUPLICATE) == 3


@pytest.mark.parametrize("headers", [{}, {"ce_source": b"shop", "ce_id": b"1"}])
def test_a_rescue_from_a_dump_of_the_topic_repeats_no_event(headers, published, tmp_path, capsys):
    value = {"user_id": "u", "item_id": "i", "event_time_ms": NOON_MS} | ({} if headers else {"event_id": "E"})
    read = Outgoing("clicks", b"u", json.dumps(value).encode(), headers)
    turns = [text for name, header in headers.items() for text in (name, header.decode())]
    dumped = {"topic": "clicks", "partition": 0, "offset": 0, "key": "u", "payload": json.dumps(value)}
    path = tmp_path / "dump.jsonl"
    path.write_text(json.dumps(dumped | ({"headers": turns} if headers else {})))
    code, _, _ = run([path], capsys)

    assert code == 0
    assert fold([read, *published]) == [Outcome.APPLIED, Outcome.DUPLICATE]


def test_a_file_without_ids_that_is_played_twice_changes_nothing(published, tmp_path, capsys):
    path = write(tmp_path, *(f"u,i{n},click,{NOON_MS + n}" for n in range(3)))
    run([path], capsys)
    run([path], capsys)

    assert fold(published).count(Outcome.APPLIED) == 3


def test_seconds_are_taken_for_seconds_and_that_is_said(published, tmp_path, capsys):
    path = write(tmp_path, *(f"m{n},i{n},view,{NOON_MS // 1_000 - n}" for n in range(20)))
    code, out, err = run([path], capsys)

    assert (code, len(published)) == (0, 20)
    assert "20 clicks" in out
    assert "times are read as seconds" in err
    assert json.loads(published[0].value)["event_time_ms"] == NOON_MS


def test_nothing_is_published_that_the_decoder_refuses(published, tmp_path, capsys):
    path = write(tmp_path, *(f"m{n},i{n},rating,{NOON_MS // 1_000 - n}" for n in range(20)))
    code, out, err = run([path, "--time-unit", "ms", "--json"], capsys)

    assert (code, published, err.count("\n")) == (1, [], 1)
    assert "0 events accepted from 20 rows" in err
    played = json.loads(out)
    assert played["skipped"] == {"bad-time": 20}
    assert played["examples"]["bad-time"]["column"] == "timestamp"


def test_what_is_left_out_is_counted_by_reason_with_an_example(published, tmp_path, capsys):
    good = [f"u{n},i,view,{NOON_MS}" for n in range(5)]
    path = write(tmp_path, *good, f",i,view,{NOON_MS}", f"u,i,search,{NOON_MS}", f"u,i,aardvark,{NOON_MS}")
    code, out, err = run([path], capsys)

    assert (code, len(published)) == (0, 5)
    assert "3 skipped" in out
    assert "1 missing-field refused: row 5, column user_id: empty" in err
    assert "1 search skipped: row 6, column event_type: search" in err
    assert "1 aardvark refused: row 7" in err


def test_an_unknown_event_type_can_be_mapped(published, tmp_path, capsys):
    path = write(tmp_path, f"u,i,aardvark,{NOON_MS}", f"u,i,4,{NOON_MS}")
    code, _, _ = run([path, "--map", "aardvark=view,4=purchase"], capsys)

    assert code == 0
    assert [record.topic for record in published] == ["clicks", "purchases"]


def test_a_catalogue_beside_the_file_is_published_and_its_refused_rows_are_counted(published, tmp_path, capsys):
    path = write(tmp_path, f"u,i1,view,{NOON_MS}")
    (tmp_path / "items.csv").write_text("item_id,category,title,price\ni1,shoes,Red shoe,12.5\n,hats,,\n")
    code, out, _ = run([path, "--json"], capsys)

    assert code == 0
    assert (json.loads(out)["items"], json.loads(out)["items_skipped"]) == (1, {"missing-field": 1})
    assert [record.topic for record in published] == ["items", "clicks"]
    assert json.loads(published[1].value)["category"] == "shoes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "otter"], "--format: unknown value 'otter'; choose from streamrec,"),
        (["--time-unit", "minutes"], "--time-unit: unknown value 'minutes'; choose from s, ms, us, ns"),
        (["--columns", "user_id"], "--columns: expected NAME=VALUE"),
        (["--map", "=view"], "--map: expected NAME=VALUE"),
    ],
)
@pytest.mark.usefixtures("published")
def test_an_option_that_makes_no_sense_is_one_line(arguments, message, tmp_path, capsys):
    path = write(tmp_path, f"u,i,view,{NOON_MS}")
    code, out, err = run([path, *arguments], capsys)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
