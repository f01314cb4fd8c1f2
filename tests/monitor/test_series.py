"""Figures out of counters: processes that start again, windows, quantiles, bounds."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streamrec.metrics import Endpoint, TrainerMetrics, WorkerMetrics
from streamrec.monitor.scrape import parse
from streamrec.monitor.series import (
    HISTORY,
    MAX_PROCESSES,
    MAX_SERIES,
    PROGRESS,
    WINDOW,
    History,
    Progress,
    Totals,
)
from streamrec.service.tally import Tally, TrainingProgress


def counted(value, **labels):
    return {("events_total", tuple(sorted(labels.items()))): float(value)}


def test_a_process_that_starts_again_adds_to_what_was_counted():
    totals = Totals()
    totals.take(0.0, {"a": counted(10, outcome="applied")})
    totals.take(1.0, {"a": counted(3, outcome="applied"), "b": counted(5, outcome="applied")})

    assert totals.total("events_total") == 18
    assert totals.total("events_total", outcome="duplicate") == 0


def test_a_process_that_does_not_answer_for_a_while_is_not_counted_twice():
    totals = Totals()
    for at_s, scraped in enumerate([{"a": counted(10)}, {}, {"a": counted(11)}]):
        totals.take(float(at_s), scraped)

    assert totals.total("events_total") == 11


def test_growth_and_rate_are_over_the_window():
    totals = Totals()
    for look in range(3 * WINDOW):
        totals.take(2.0 * look, {"a": counted(100 * look)})

    assert totals.grown("events_total") == 100 * (WINDOW - 1)
    assert totals.rate("events_total") == 50.0


def test_totals_are_by_label_among_those_that_have_the_others():
    totals = Totals()
    totals.take(0.0, {"a": counted(1, worker="x", outcome="p") | counted(2, worker="y", outcome="p")})

    assert totals.by("events_total", "outcome") == {"p": 3.0}
    assert totals.by("events_total", "outcome", worker="y") == {"p": 2.0}


def test_a_quantile_is_of_what_came_within_the_window():
    def seen(fast, slow):
        counts = {"0.1": fast, "1.0": fast + slow, "+Inf": fast + slow}
        return {"a": {("age_bucket", (("le", bound), ("stage", "s"))): float(n) for bound, n in counts.items()}}

    totals = Totals()
    totals.take(0.0, seen(1_000, 0))
    assert totals.quantile(0.5, "age", stage="s") is None
    totals.take(1.0, seen(1_000, 10))

    assert totals.quantile(0.5, "age", stage="s") == pytest.approx(0.55)
    assert totals.quantile(0.5, "age", stage="other") is None


def test_nothing_grows_without_bound():
    totals, history = Totals(), History()
    for n in range(MAX_PROCESSES + 50):
        totals.take(float(n), {f"process {n}": counted(1)})
    for n in range(HISTORY + 10):
        history.record("one", float(n), 1.0)
    for n in range(MAX_SERIES + 10):
        history.record(f"series {n}", 0.0, 1.0)

    assert len(totals._last) == MAX_PROCESSES
    assert len(history.of("one")) == HISTORY
    assert history.of(f"series {MAX_SERIES + 5}") == []


def test_what_is_no_number_is_not_recorded():
    history = History()
    for value in (None, float("nan"), float("inf")):
        history.record("x", 0.0, value)

    assert history.newest("x") is None


def progress_of(looks, popular=0.05):
    """Return hit rates of a model that learns: of ten events/s, more and more are hits."""
    progress = Progress()
    hits = 0.0
    for look in range(looks):
        hits += 10 * look / looks
        progress.record(float(look), 10.0 * (look + 1), hits, 10.0 * (look + 1) * popular)
    return progress


@pytest.mark.parametrize("looks", [2, 30, PROGRESS, 20 * PROGRESS])
def test_hit_rates_reach_back_to_the_start_however_long_ago_that_was(looks):
    lists, popular = progress_of(looks).shares(60)

    assert 1 <= len(lists) <= 2 * 60 + 2
    assert lists[0][0] <= max(1, looks / 16)
    assert lists[-1][0] >= looks * (1 - 3 / PROGRESS) - 1
    assert [share for _, share in lists] == sorted(share for _, share in lists)
    assert all(share == pytest.approx(0.05) for _, share in popular)


def test_hit_rates_take_bounded_memory():
    progress = progress_of(20 * PROGRESS)

    assert len(progress._counts) <= PROGRESS


def test_a_hit_rate_is_that_of_the_events_tested_meanwhile():
    progress = Progress()
    for at_s, tested, hits in ((0.0, 0, 0), (1.0, 10, 5), (2.0, 10, 5)):
        progress.record(at_s, tested, hits, 0)

    assert progress.shares(60)[0] == [(1.0, 0.5), (2.0, 0.5)]
    assert Progress().shares(60) == ([], [])


def test_a_version_from_before_a_worker_started_has_an_age_and_was_not_on_its_way():
    registry = CollectorRegistry()
    WorkerMetrics(registry).record_newest("model", 5_000)
    scraped = parse(Endpoint("recall", "h", 1), generate_latest(registry).decode())
    assert scraped.gauges["streamrec_newest_effect_timestamp_seconds", (("stage", "model"),)] == 5.0
    assert not any(name.startswith("streamrec_freshness_seconds") for name, _ in scraped.counters)


def test_what_a_worker_says_is_read_back():
    registry = CollectorRegistry()
    tally = Tally(Counter(applied=3), Counter({("clicks", "bad-json"): 1}), [1_000, 2_000])
    tally.dropped["clicks", "context.page"] = 2
    WorkerMetrics(registry).record_batch("interests", 4, tally, seconds=0.01, now_ms=2_500)
    progress = TrainingProgress(micro_batches=2, tested=10, hits=4, popular_hits=1, version="v7", learned_at_ms=5_000)
    trainer = TrainerMetrics(registry)
    untold = parse(Endpoint("trainer", "h", 1), generate_latest(registry).decode())
    assert untold.label("streamrec_made_model_info", "version") is None
    for _ in range(2):  # what did not grow is not counted again
        trainer.record_training(progress, waiting=6)
    scraped = parse(Endpoint("interests", "h", 1), generate_latest(registry).decode())
    totals = Totals()
    totals.take(0.0, {"a": scraped.counters})

    assert totals.by("streamrec_outcomes_total", "outcome", worker="interests") == {"applied": 3.0}
    assert totals.by("streamrec_refused_total", "reason") == {"bad-json": 1.0}
    assert totals.total("streamrec_freshness_seconds_count", stage="interests") == 2
    assert totals.total("streamrec_freshness_seconds_sum", stage="interests") == 2.0
    assert (totals.total("streamrec_micro_batches_total"), totals.total("streamrec_prequential_hits_total")) == (2, 4)
    assert scraped.gauge("streamrec_learned_timestamp_seconds") == 5.0
    assert scraped.gauge("streamrec_training_waiting_events") == 6.0
    assert scraped.label("streamrec_made_model_info", "version") == "v7"
    assert scraped.label("streamrec_serving_model_info", "version") is None
