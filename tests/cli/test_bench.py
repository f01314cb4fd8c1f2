"""`streamrec bench` on a small population: that it measures and what it says, not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import inf

import pytest

from streamrec.bench.model_freshness import VersionWatch
from streamrec.environment import variable_name
from streamrec.kafka_access import KafkaAccess


def bench(*arguments):
    finished = subprocess.run(
        [sys.executable, "-m", "streamrec", "bench", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith(variable_name(""))},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_freshness_is_measured_of_every_click_and_every_process():
    figures = bench("freshness", "--rate", "50", "--seconds", "3", "--runs", "2", "--users", "500", "--items", "400")

    assert {"rate", "redis_p50_ms", "redis_p99_ms", "kafka_p50_ms", "kafka_p99_ms"} <= set(figures)
    assert 0 < figures["redis_p50_ms"] <= figures["redis_p99_ms"] <= figures["redis_max_ms"]
    assert 0 < figures["kafka_p50_ms"] <= figures["kafka_p99_ms"] <= figures["kafka_max_ms"]
    low, high = figures["redis_p99_spread_ms"]
    assert low <= figures["redis_p99_ms"] <= high
    assert set(figures["stages"]) == {"producing", "interests", "recall", "store"}
    assert {"interests", "trainer", "recall", "retention"} <= set(figures["cpu"])
    assert set(figures["cpu"]) == set(figures["rss_mb"])
    assert all(mib > 1 for mib in figures["rss_mb"].values())
    assert 0 < figures["floor_p50_ms"] <= figures["floor_p99_ms"] <= figures["floor_max_ms"]
    assert figures["p50_ratio"] == pytest.approx(figures["redis_p50_ms"] / figures["floor_p50_ms"], abs=0.06)
    assert figures["p99_ratio"] == pytest.approx(figures["redis_p99_ms"] / figures["floor_p99_ms"], abs=0.06)
    assert figures["rate_reached"] > 0
    assert isinstance(figures["saturated"], bool)


def test_freshness_says_what_was_reached_where_the_rate_is_more_than_the_machine_holds():
    figures = bench(
        "freshness", "--rate", "1000000", "--seconds", "1", "--runs", "2", "--users", "500", "--items", "400"
    )

    assert figures["saturated"]
    assert figures["runs"] == 1, "none begins behind a backlog"
    assert 0 < figures["rate_reached"] < figures["rate"]
    assert 0 < figures["redis_p50_ms"] <= figures["redis_p99_ms"] <= figures["redis_max_ms"]
    assert 0 < figures["floor_p50_ms"] <= figures["floor_p99_ms"]


def test_the_exact_search_finds_what_a_plain_one_finds():
    figures = bench("topk", "--items", "5000", "--items", "7001", "--users", "1", "--users", "3", "--repeats", "4")

    assert [(row["items"], row["users"]) for row in figures["rows"]] == [(5000, 1), (5000, 3), (7001, 1), (7001, 3)]
    assert all(row["same_items"] for row in figures["rows"])
    assert all(row[f"{name}p50_ms"] > 0 for row in figures["rows"] for name in ("", "naive_", "faiss_", "usearch_"))
    assert all(0.5 < row["usearch_recall"] <= 1 for row in figures["rows"])


def test_the_worker_and_every_peer_fold_all_events():
    figures = bench("interests", "--events", "10000", "--runs", "1")

    assert set(figures["peers"]) == {"faust_table", "quix", "quix_publishing", "bytewax"}
    assert set(figures["guarantees"]) == set(figures["spread_events_per_s"]) == {"streamrec", *figures["peers"]}
    assert all(speed > 0 for speed in [figures["events_per_s"], *figures["peers"].values()])


def test_users_lists_and_an_idle_pipeline_have_a_price():
    figures = bench("scale", "--users", "400", "--seconds", "2", "--events", "20000")

    assert 100 < figures["redis_bytes_per_user"] < 5_000
    assert 1_000 < figures["redis_bytes_per_list"] < 50_000
    workers = ("interests", "trainer", "recall", "retention")
    idle = sum(figures["idle_cpu_percent_by_process"][name] for name in workers)
    assert abs(figures["idle_cpu_percent"] - idle) < 0.02
    assert all(figures["rss_mb"][name] > 1 for name in workers)
    assert {(row["partitions"], row["processes"]) for row in figures["rows"]} == {(1, 1), (4, 1), (4, 2)}
    assert all(row["events_per_s"] > 0 for row in figures["rows"])


def test_a_backfill_ends_with_a_healthy_pipeline_whose_lists_have_learned_everything():
    figures = bench("backfill", "--events", "4000", "--users", "300", "--items", "400")

    assert (figures["events"], figures["users"], figures["unfinished_lists"]) == (4000, 300, 0)
    assert 0 < figures["produced_s"] <= figures["read_s"] <= figures["healthy_s"]


def test_steps_are_timed_and_events_followed_until_their_weights_serve():
    figures = bench("train", "--items", "1000", "--items", "3000", "--steps", "3", "--rate", "40", "--seconds", "3")

    assert [row["items"] for row in figures["rows"]] == [1000, 3000]
    assert all(0 < row["slowest_tokens_per_s"] <= row["tokens_per_s"] for row in figures["rows"])
    assert 0 < figures["model_freshness_p50_s"] <= figures["model_freshness_p95_s"] <= figures["model_freshness_p99_s"]


def test_weights_serve_from_the_first_list_of_their_version_or_of_a_later_one():
    watch = VersionWatch(KafkaAccess("nowhere:1"))
    watch._learned_ms = {"a": 100, "b": 200, "c": 300, "never-listed": 250}
    watch._served_ms = {"": 1, "a": 1_100, "b": 1_500, "c": 1_400}

    assert watch.served_at_ms([50, 100, 101, 200, 201, 301]).tolist() == [1_100, 1_100, 1_400, 1_400, 1_400, inf]
