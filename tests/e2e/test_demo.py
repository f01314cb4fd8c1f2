"""The demo from end to end: it prints figures that add up, and the same retention as a plain count over its file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamrec.domain.retention import REACH_DAYS
from streamrec.environment import variable_name

EVENT_TYPES = {"view", "click", "favourite", "add_to_cart", "rating", "purchase", "return"}
DAY_MS = 86_400_000


def run(options):
    finished = subprocess.run(
        [sys.executable, "-m", "streamrec", "demo", *options],
        capture_output=True,
        text=True,
        check=False,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(variable_name(""))},
            "COLUMNS": "80",
        },
    )
    assert finished.returncode == 0, finished.stderr
    return finished


def run_demo(path, data_dir, limit):
    options = ["--json", "--data", str(path), "--limit", str(limit), "--data-dir", str(data_dir)]
    return json.loads(run(options).stdout)


def retention_by_hand(path):
    """Count, from the file alone, who was active on which day and who came back."""
    active: dict[str, set[int]] = {}
    for row in pq.read_table(path, columns=["user_id", "event_type", "timestamp"]).to_pylist():
        if row["event_type"] in EVENT_TYPES:
            active.setdefault(str(row["user_id"]), set()).add(row["timestamp"] // DAY_MS)
    days = sorted(set().union(*active.values()))
    cohorts = {day: [seen for seen in active.values() if min(seen) == day] for day in days}
    return [
        {
            "day": datetime.fromtimestamp(day * DAY_MS / 1_000, UTC).date().isoformat(),
            "active_users": sum(day in seen for seen in active.values()),
            "new_users": len(cohorts[day]),
            **{
                f"day_{n}": sum(day + n in seen for seen in cohorts[day]) / len(cohorts[day])
                if cohorts[day] and any(0 < later - (day + n) <= REACH_DAYS for later in days)
                else None
                for n in (1, 7, 30)
            },
        }
        for day in days
    ]


def assert_adds_up(figures):
    assert figures["consumed"] == figures["applied"] + figures["duplicates"] + figures["dead_lettered"]
    assert figures["lag"] == 0
    assert figures["lists_emitted"] > 0
    assert figures["freshness_p50_ms"] <= figures["freshness_p99_ms"]
    assert figures["broker"].startswith("apache-kafka")


def assert_same_retention(figures, path):
    by_hand = retention_by_hand(path)

    assert [{name: day[name] for name in by_hand[0]} for day in figures["days"]] == by_hand


def test_the_demo_of_the_shop_is_short_and_whole_and_its_lists_are_good(tmp_path):
    finished = run(["--data-dir", str(tmp_path)])
    printed = finished.stdout.rstrip().splitlines()
    lines = [*finished.stderr.splitlines(), *printed]
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80
    assert "…" not in finished.stdout
    assert "DOES NOT ADD UP" not in finished.stdout

    tables = "\n".join(line.rstrip() for line in printed).split("\n\n")
    assert len(tables) == 5
    assert all(len(table.splitlines()) >= 5 for table in tables), "none is empty"
    assert "did not change" not in tables[0]
    shares = re.findall(r"^(streamrec|what|ten lines|an oracle).* ([0-9.]+) %$", tables[1], re.MULTILINE)
    rate = {name: float(share) for name, share in shares}
    assert rate["streamrec"] >= 0.85 * rate["ten lines"]
    assert rate["streamrec"] >= 4 * rate["what"]
    assert rate["an oracle"] > max(rate["streamrec"], rate["ten lines"])


def test_the_demo_of_a_file_adds_up(tmp_path):
    rows = [
        {
            "user_id": n % 97,
            "item_id": f"i{n % 31}",
            "event_type": ("view", "purchase", "return")[n % 3 if n % 9 < 3 else 0],
            "timestamp": 1_700_000_000_000 + n * 300_000,
        }
        for n in range(1_200)
    ]
    path = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    figures = run_demo(path, tmp_path / "data", 2_000)

    assert_adds_up(figures)
    assert figures["consumed"] == len(rows)
    assert_same_retention(figures, path)


def test_the_retention_of_real_events_is_that_of_the_file(tmp_path):
    if "STREAMREC_DATA" not in os.environ:
        pytest.skip("STREAMREC_DATA does not say where real events are")
    path = Path(os.environ["STREAMREC_DATA"]) / "taobao_users" / "events.parquet"
    figures = run_demo(path, tmp_path / "data", 100_000)

    assert_adds_up(figures)
    assert_same_retention(figures, path)
