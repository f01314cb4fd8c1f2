"""The search for the highest rate, and what `bench rate` says of two builds."""

from __future__ import annotations

import json
import math
from importlib import import_module

import pytest
from typer.testing import CliRunner

from streamrec.bench import rate
from streamrec.cli import app
from streamrec.errors import StreamrecError

command = import_module("streamrec.cli.benchmarks.rate")  # the package has its function under this name


def run(rate_, *, latency_ms=10.0, saturated=False, cpu_ms=0.5):
    cpu = {"interests": cpu_ms, "recall": 2 * cpu_ms, "kafka": 0.3}
    return rate.Run(rate_, saturated, latency_ms, 2 * latency_ms, 3.0, cpu)


@pytest.mark.parametrize("highest", [1.5, 40.0, 795.0, 801.0, 20_000.0])
def test_a_rate_is_found_within_the_precision(highest):
    search = rate.RateSearch(800.0, precision=1.05)
    while not search.is_done:
        search.note(search.next_rate, holds=search.next_rate <= highest)
    assert search.held <= highest <= search.failed <= search.held * 1.051


def test_a_search_ends_where_no_rate_holds():
    search = rate.RateSearch(800.0, precision=1.05)
    while not search.is_done:
        search.note(search.next_rate, holds=False)
    assert search.held <= rate.LEAST_RATE


def test_what_fails_over_the_full_length_is_not_reported():
    def build(rate_, seconds):
        return run(rate_, saturated=rate_ > (500 if seconds < 100 else 400))

    found = rate.highest_rates({"now": build}, first=100.0, precision=1.05, p99_ms=1_000.0, trial_s=10.0, final_s=300.0)
    assert 400 / 1.05 <= found["now"] <= 400


@pytest.mark.parametrize(
    ("measured", "holds"), [(run(1.0), True), (run(1.0, latency_ms=501.0), False), (run(1.0, saturated=True), False)]
)
def test_a_rate_holds_if_the_build_keeps_up_and_lists_are_in_time(measured, holds):
    assert measured.holds(1_000.0) is holds


def test_a_directory_without_a_build_is_refused(tmp_path):
    with pytest.raises(StreamrecError, match="git worktree add"):
        rate.run_build(tmp_path, 1.0, 1.0, {})


def test_builds_are_compared_at_half_of_the_other_ones_rate(monkeypatch, tmp_path):
    asked = []

    def run_build(path, rate_, seconds, options):
        asked.append((path, rate_, seconds, options))
        is_own = path == rate.OWN_BUILD
        return run(
            rate_,
            saturated=rate_ > (300 if is_own else 200),
            latency_ms=5 if is_own else 20,
            cpu_ms=0.1 + 0.1 * (not is_own),
        )

    monkeypatch.setattr(command, "run_build", run_build)
    ended = CliRunner().invoke(app.app, ["bench", "rate", "--against", str(tmp_path), "--users", "9", "--json"])
    assert ended.exit_code == 0, ended.output
    figures = json.loads(ended.stdout)
    assert 300 / 1.05 <= figures["rate"] <= 300
    assert 200 / 1.05 <= figures["rate_before"] <= 200
    assert math.isclose(figures["rate_ratio"], figures["rate"] / figures["rate_before"], abs_tol=0.01)
    assert figures["rate_compared"] == pytest.approx(figures["rate_before"] / 2, abs=0.1)
    assert (figures["p50_ratio"], figures["p99_ratio"]) == (0.25, 0.25)
    assert (figures["recall_cpu_ratio"], figures["interests_cpu_ratio"]) == (0.5, 0.5)
    assert figures["floor_p50_ms"] == 3.0
    assert set(figures["spread"]) == {"p50_ratio", "p99_ratio", "recall_cpu_ratio", "interests_cpu_ratio"}
    assert figures["cpu"]["now"]["recall"] == 0.2
    assert all(options["users"] == 9 for *_, options in asked)


def test_without_another_build_there_is_nothing_to_compare(monkeypatch):
    monkeypatch.setattr(command, "run_build", lambda _path, rate_, _s, _options: run(rate_, saturated=rate_ > 300))
    ended = CliRunner().invoke(app.app, ["bench", "rate", "--json"])
    figures = json.loads(ended.stdout)
    assert figures["rate_before"] is None
    assert figures["p99_ratio"] is None
    assert figures["spread"] == {}
    ended = CliRunner().invoke(app.app, ["bench", "rate"])
    assert "clicks/s" in ended.stdout
