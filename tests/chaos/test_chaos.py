"""Chaos runs on real servers: a sound build passes the oracle, and a broken one does not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from streamrec.chaos import outage
from streamrec.chaos.cast import SERVERS
from streamrec.chaos.experiment import run
from streamrec.chaos.faults import Kind, schedule
from streamrec.chaos.planted import BUGS, PLACES

WORKERS = ("interests", "recall", "trainer")
SWIFT = ("interests", "recall", "retention")
"""The start of the trainer costs more than a whole run of the others."""


def test_a_seed_gives_the_same_schedule():
    def faults(seed):
        return schedule(seed, workers=WORKERS, places=tuple(PLACES), servers=SERVERS, duration_s=60)

    assert faults(1) == faults(1) != faults(2)
    assert {fault.kind for fault in faults(1)} == set(Kind)


@pytest.mark.parametrize("bug", BUGS)
def test_a_broken_build_does_not_pass(tmp_path, bug):
    outcome = run(seed=2, events=2_000, rate=600, directory=tmp_path, workers=SWIFT, bug=bug)

    assert outcome.verdict.state_mismatches > 0
    assert any(note.startswith("state of") for note in outcome.verdict.notes), outcome.verdict.notes


def test_redis_may_be_away(tmp_path):
    figures = outage.run("redis", away_s=4.0, rate=200.0, warm_s=0.0, directory=tmp_path, workers=SWIFT)

    assert (figures.missing, figures.extra, figures.state_mismatches) == (0, 0, 0), figures.notes
    assert (figures.crashes, figures.rebalances) == (0, 0)
    assert figures.memory_growth_mb.keys() == set(SWIFT)


def test_a_sound_build_survives_every_kind_of_fault():
    arguments = ["chaos", "--seeds", "1", "--events", "14000", "--rate", "400", "--json"]
    done = subprocess.run([sys.executable, "-m", "streamrec", *arguments], capture_output=True, text=True, check=False)

    figures = json.loads(done.stdout)
    assert (figures["missing"], figures["extra"], figures["state_mismatches"]) == (0, 0, 0), figures["notes"]
    assert done.returncode == 0, done.stderr
    assert figures["kills"].keys() == set(Kind)
    assert figures["duplicates"] > 0
    assert {"runs", "longest_stall_s", "recovery_p50_s", "recovery_p95_s"} <= figures.keys()
