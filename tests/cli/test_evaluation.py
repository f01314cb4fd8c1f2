"""`streamrec eval incremental` and `leave-one-out` from files to figures."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from streamrec.cli.app import main
from streamrec.settings import Settings

CLICKS = "--event-type", "click", "--json"

SMALL = """
[model]
dim = 8
max_length = 6
[training]
negatives = 16
[fitting]
epochs = 2
"""


@pytest.fixture(autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(SMALL)
    return file


def run(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["eval", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def events(rng, users=30, length=6):
    """Return rows of users who walk from item to item, in the order of time."""
    first = rng.integers(0, 15, users)
    return [
        {"user_id": f"u{user}", "item_id": f"i{(first[user] + step) % 15}", "timestamp": 1000 * (step * users + user)}
        for step in range(length)
        for user in range(users)
    ]


def test_leave_one_out_of_events(tmp_path, settings, capsys):
    rows = events(np.random.default_rng(0))
    pq.write_table(pa.Table.from_pylist(rows[::-1]), tmp_path / "events.parquet")
    code, out, err = run(["leave-one-out", "--data", tmp_path, "--settings", settings, "--json", "--seed", 3], capsys)
    result = json.loads(out)

    assert code == 0
    assert (result["users"], result["items"], result["seed"]) == (30, 15, 3)
    assert 0 <= result["ndcg_at_10"] <= result["hr_at_10"] <= 1
    assert result["hr_at_10_interval"][0] <= result["hr_at_10"] <= result["hr_at_10_interval"][1]
    assert result["settings"]["model"]["dim"] == 8
    assert result["settings"]["model"]["heads"] == 2
    assert result["seconds"] >= 0
    assert "validation HR@10" in err


def test_one_data_set_in_all_its_forms_gives_the_same_figures(tmp_path, capsys):
    rows = events(np.random.default_rng(1))
    untimed = tmp_path / "untimed.toml"
    untimed.write_text("timed = false" + SMALL)
    places = {}
    for row in rows:
        places[row["user_id"]] = places.get(row["user_id"], -1) + 1
        row["pos"] = places[row["user_id"]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sequences.parquet")
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,timestamp\n"
        + "".join(f"{row['user_id']},{row['item_id']},{row['timestamp']}\n" for row in rows)
    )
    (tmp_path / "events.jsonl").write_text("".join(json.dumps({**row, "event_type": "view"}) + "\n" for row in rows))
    figures = [
        json.loads(run(["leave-one-out", "--data", tmp_path / name, "--settings", untimed, "--json"], capsys)[1])
        for name in ("sequences.parquet", "events.csv", "events.jsonl")
    ]

    assert len({(one["hr_at_10"], one["ndcg_at_10"], one["users"]) for one in figures}) == 1


def test_leave_one_out_of_lines(tmp_path, settings, capsys):
    lines = "".join(f"{user} {' '.join(str((user + step) % 9) for step in range(5))}\n" for user in range(20))
    with pa.output_stream(str(tmp_path / "shop.txt.zst")) as stream:
        stream.write(lines.encode())
    code, out, _ = run(["leave-one-out", "--data", tmp_path, "--settings", settings, "--json"], capsys)

    assert code == 0
    assert json.loads(out)["users"] == 20


def test_incremental(tmp_path, settings, capsys):
    rng = np.random.default_rng(2)
    rows = [
        {"session_id": session + 100 * week, "item_id": int(first + step) % 15, "period": week}
        for week in range(3)
        for session, first in enumerate(rng.integers(0, 15, 30))
        for step in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sessions.parquet")
    code, out, err = run(["incremental", "--data", tmp_path, "--settings", settings, "--json"], capsys)
    result = json.loads(out)

    assert code == 0
    assert [period["period"] for period in result["periods"]] == [1, 2]
    assert [period["prefixes"] for period in result["periods"]] == [90, 90]
    assert 0 <= result["mrr_at_20"] <= result["recall_at_20"] <= 100
    assert result["recall_at_20"] == pytest.approx(np.mean([p["recall_at_20"] for p in result["periods"]]), abs=1e-3)
    assert result["recall_at_20_interval"][0] <= result["recall_at_20"] <= result["recall_at_20_interval"][1]
    assert "R@20" in err


@pytest.mark.parametrize(
    ("arguments", "files", "message"),
    [
        (["leave-one-out", "--data", "nowhere"], {}, "no such file"),
        (["leave-one-out", "--data", "."], {}, "in this folder"),
        (["leave-one-out", "--data", "a.xls"], {"a.xls": "?"}, "a.xls"),
        (["leave-one-out", "--data", "a.csv"], {"a.csv": "user_id,item\nu,1\n"}, "timestamp; columns: user_id, item"),
        (["leave-one-out", "--data", "a.csv"], {"a.csv": "user_id,item_id,timestamp\nu,1,5\n"}, "the three events"),
        (["leave-one-out", "--data", "a.csv"], {"a.csv": "user_id,item_id,timestamp\nu,1,noon\n"}, "timestamp"),
        (["leave-one-out", "--data", "a.parquet"], {"a.parquet": "not one"}, "a.parquet"),
        (["leave-one-out", "--data", "a.csv", "--settings", "s.toml"], {"s.toml": "epochs = 3"}, "setting epochs"),
        (["leave-one-out", "--data", "a.csv", "--settings", "s.toml"], {"s.toml": "= 3"}, "s.toml"),
        (["leave-one-out", "--data", "a.csv", "--settings", "s.json"], {"s.json": '{"patience": "x"}'}, "`int`"),
        (
            ["leave-one-out", "--data", "a.csv", "--settings", "s.toml"],
            {"s.toml": "[model]\ndim = 7\nheads = 2"},
            "dim",
        ),
        (["incremental", "--data", "a.csv"], {"a.csv": "session_id,item_id,period\n1,1,0\n1,2,0\n"}, "two time slices"),
        (
            ["incremental", "--data", "a.csv"],
            {"a.csv": "session_id,item_id,period\n1,1,0\n1,2,0\n2,3,1\n"},
            "no session with two known items",
        ),
        (["incremental", "--data", "a.csv"], {"a.csv": "session_id,item_id\n1,1\n"}, "no column period"),
    ],
)
def test_a_users_error_is_one_line(arguments, files, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    code, out, err = run(arguments, capsys)

    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_tune_reads_the_first_fifth_and_writes_variables(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STREAMREC_EMBEDDING_DIM", "8")
    rows = [
        row | {"timestamp": 1_700_000_000 + row["timestamp"]} for row in events(np.random.default_rng(0), users=200)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    written = tmp_path / "tuned.env"
    code, out, err = run(["tune", "--data", tmp_path, "--trials", 2, "--write", written, *CLICKS], capsys)
    assert code == 0, err
    result = json.loads(out)
    assert result["rows"] == 240
    assert result["trials"][0]["settings"]["embedding_dim"] == 8
    assert result["is_better"] == (result["gain_interval"][0] > 0)
    variables = dict(line.split("=") for line in written.read_text().splitlines()[1:])
    assert variables == result["settings"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_env().embedding_dim == int(variables["STREAMREC_EMBEDDING_DIM"])


@pytest.mark.parametrize(("missing", "message"), [("folder", "no such folder"), ("optuna", "streamrec[eval]")])
def test_tune_checks_before_it_searches(tmp_path, capsys, monkeypatch, missing, message):
    if missing == "optuna":
        monkeypatch.setattr(import_module("streamrec.cli.evaluation.tune"), "find_spec", lambda _name: None)
    code, out, err = run(["tune", "--data", tmp_path, "--write", tmp_path / "none" / "tuned.env"], capsys)
    assert (code, out) == (2, "")
    assert message in err


def test_tune_says_when_there_is_nothing_to_score(tmp_path, capsys):
    rows = [{"user_id": f"u{n}", "item_id": "i", "timestamp": 1_700_000_000 + n} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    code, out, err = run(["tune", "--data", tmp_path, "--trials", 2, *CLICKS], capsys)
    assert (code, out) == (2, "")
    assert "too few events" in err
