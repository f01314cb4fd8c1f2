"""`streamrec eval prequential` on a small file."""

from __future__ import annotations

import csv
import json
import random
import sys

import pytest

from streamrec.cli.app import main
from streamrec.evaluation.ablation import UNCHANGED, VARIANTS

START_MS = 1_760_000_000_000


@pytest.fixture
def events_file(tmp_path):
    """Write 240 events of 9 users, three of which have a type that is skipped."""
    path = tmp_path / "events.csv"
    draw = random.Random(0)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["user_id", "item_id", "event_type", "timestamp"])
        for n in range(240):
            user = draw.randrange(9)
            event_type = "return" if n in (50, 100, 150) else draw.choice(["view", "view", "purchase"])
            writer.writerow([f"u{user}", f"i{user % 3}-{draw.randrange(8)}", event_type, START_MS + 60_000 * n])
    return path


def run(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def test_one_json_object_says_it_all_and_windows_are_drawn(events_file, tmp_path, capsys):
    plot = tmp_path / "windows.png"
    code, out, err = run(
        ["eval", "prequential", "--data", str(events_file), "--seed", "3", "--plot", str(plot), "--json"], capsys
    )

    assert (code, err) == (0, "")
    result = json.loads(out)
    measures = {f"{name}_at_{k}" for name in ("ndcg", "hit_rate", "mrr") for k in (10, 20)}
    measures |= {"precision_at_10", "recall_at_10", "f1_at_10"}
    measures |= {"events", "coverage", "novelty", "new_item_share"}
    asked = {"baselines", "best_baseline", "relative_gain", "p_value", "windows", "seconds", "seed", "settings"}
    assert measures | asked | {"intra_list_distance", "calibration"} <= result.keys()
    assert list(result["channels"]) == result["settings"]["channels"].split(",")
    assert all(each.keys() == {"recall_at_100", "added_recall_at_100"} for each in result["channels"].values())
    assert (result["events"], result["learned_events"], result["skipped"]) == (189, 240, {})
    assert {"popular_1h", "neighbours_168h", "matrix_factorization", "frozen", "retrained"} <= result[
        "baselines"
    ].keys()
    assert result["baselines"].keys() == result["baseline_hit_rates_at_10"].keys()
    assert result["baselines"][result["best_baseline"]] == max(result["baselines"].values())
    low, high = result["ndcg_at_10_interval"]
    assert low < result["ndcg_at_10"] < high
    assert 0 <= result["p_value"] <= 1
    assert result["seed"] == 3
    assert sum(window["events"] for window in result["windows"]) == 189
    assert measures | {"from_ms", "to_ms", "baselines"} == result["windows"][0].keys()
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_plot_needs_matplotlib(events_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run(
        ["eval", "prequential", "--data", str(events_file), "--plot", str(tmp_path / "windows.png")], capsys
    )

    assert (code, out) == (2, "")
    assert err == "streamrec: --plot needs matplotlib: install streamrec[eval]\n"


@pytest.mark.parametrize("name", ["windows.jpg", "nowhere/windows.png"])
def test_a_plot_that_cannot_be_written_is_refused_before_the_run(name, events_file, tmp_path, capsys):
    code, out, err = run(["eval", "prequential", "--data", str(events_file), "--plot", str(tmp_path / name)], capsys)

    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "expected a .png file in an existing folder" in err


def test_a_file_without_events_is_refused(events_file, capsys):
    short = events_file.parent / "short.csv"
    short.write_text("user_id,item_id,event_type,timestamp\n" + f"u1,i1,search,{START_MS}\n" * 20)
    code, out, err = run(["eval", "prequential", "--data", str(short)], capsys)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "0 events accepted from 20 rows" in err


@pytest.mark.parametrize("command", ["prequential", "ablation"])
def test_what_the_contract_refuses_is_not_scored(command, events_file, capsys):
    text = events_file.read_text().replace(str(START_MS)[:5], "00000")  # 1970
    events_file.write_text(text)
    code, out, err = run(["eval", command, "--data", str(events_file), "--time-unit", "ms"], capsys)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "0 events accepted from" in err
    assert "bad-time" in err


def test_a_part_is_taken_out_in_a_process_of_its_own(events_file, capsys, monkeypatch):
    names = (UNCHANGED, "blend: no repeats")
    for name in VARIANTS.keys() - set(names):
        monkeypatch.delitem(VARIANTS, name)
    code, out, err = run(["eval", "ablation", "--data", str(events_file), "--limit", "240", "--json"], capsys)

    assert (code, err) == (0, "")
    result = json.loads(out)
    as_it_is, without = result["variants"]
    assert (result["rows"], result["events"]) == (240, 189)
    assert (as_it_is["variant"], as_it_is["gain"], as_it_is["gain_interval"]) == (names[0], 0.0, [0.0, 0.0])
    assert without["variant"] == names[1]
    assert without["ndcg_at_10"] != as_it_is["ndcg_at_10"]
