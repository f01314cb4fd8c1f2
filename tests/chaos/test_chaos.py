"""Chaos runs on real servers: a sound build passes the oracle, and a broken one does not."""

from __future__ import annotations

import pytest

from streamrec.chaos import outage
from streamrec.chaos.cast import SERVERS
from streamrec.chaos.experiment import Plan, run
from streamrec.chaos.faults import Kind, schedule
from streamrec.chaos.planted import BUGS, PLACES

WORKERS = ("interests", "recall", "trainer")
SWIFT = ("interests", "recall", "retention")
"""The start of the trainer costs more than a whole run of the others."""


def test_a_seed_gives_the_same_schedule():
    def faults(seed):
        return schedule(seed, workers=WORKERS, places=tuple(PLACES), servers=SERVERS, duration_s=150, mean_pause_s=5)

    assert faults(1) == faults(1) != faults(2)
    assert {fault.kind for fault in faults(1)} == set(Kind)


@pytest.mark.parametrize("bug", BUGS)
def test_a_broken_build_does_not_pass(tmp_path, bug):
    outcome = run(Plan(seed=2, events=2_000, rate=600), tmp_path, workers=SWIFT, bug=bug)

    assert outcome.verdict.state_mismatches > 0
    assert any(note.startswith("state of") for note in outcome.verdict.notes), outcome.verdict.notes


def test_redis_may_be_unavailable(tmp_path):
    figures = outage.run("redis", away_s=4.0, rate=200.0, warm_s=0.0, directory=tmp_path, workers=SWIFT)

    assert (figures.missing, figures.extra, figures.state_mismatches) == (0, 0, 0), figures.notes
    assert (figures.crashes, figures.rebalances) == (0, 0)
    assert figures.memory_growth_mb.keys() == set(SWIFT)


def test_a_sound_build_survives_every_kind_of_fault(tmp_path):
    # denser than in long runs: what is at stake here is not how soon it recovers
    outcome = run(Plan(seed=1, events=22_000, rate=400, mean_pause_s=3), tmp_path)

    assert outcome.verdict.clean, outcome.verdict.notes
    assert {fault.kind for fault, _ in outcome.recoveries} == set(Kind)
    assert outcome.duplicates > 0
