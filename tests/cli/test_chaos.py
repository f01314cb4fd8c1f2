"""What `streamrec chaos` says of its runs; the runs themselves are in `tests/chaos`."""

from __future__ import annotations

import json

import pytest

from streamrec.chaos.experiment import Outcome
from streamrec.chaos.faults import Fault, Kind
from streamrec.chaos.oracle import Verdict
from streamrec.cli import chaos
from streamrec.cli.app import main

BROKER, WORKER = Fault(1.0, Kind.KILL_BROKER), Fault(9.0, Kind.KILL_WORKER, "recall")


@pytest.fixture
def run_seeds(monkeypatch, capsys):
    """Return what says which figures runs with these verdicts come to, and the exit code."""

    def run_seeds(*verdicts):
        plans = []

        def run(plan, _directory):
            plans.append(plan)
            return Outcome(verdicts[plan.seed - 7], 3, 1.5 * plan.seed, [(BROKER, 6.0), (WORKER, 2.0 + plan.seed)])

        monkeypatch.setattr(chaos, "run", run)
        seeds = ["--seeds", str(len(verdicts)), "--first-seed", "7"]
        with pytest.raises(SystemExit) as exit_info:
            main(["chaos", *seeds, "--events", "500", "--rate", "250", "--json"])
        assert [(plan.seed, plan.events, plan.rate) for plan in plans] == [
            (7 + number, 500, 250.0) for number in range(len(verdicts))
        ]
        return json.loads(capsys.readouterr().out), exit_info.value.code

    return run_seeds


def test_clean_runs_are_summed_up(run_seeds):
    figures, code = run_seeds(Verdict(), Verdict())

    assert code == 0
    assert (figures["runs"], figures["missing"], figures["extra"], figures["state_mismatches"]) == (2, 0, 0, 0)
    assert figures["kills"] == {"kill-worker": 2, "kill-broker": 2}
    assert (figures["duplicates"], figures["longest_stall_s"]) == (6, 12.0)
    assert 6.0 <= figures["recovery_p50_s"] <= figures["recovery_p95_s"]
    assert figures["recovery_by_kind_s"] == {"kill-worker": [9.0, 10.0], "kill-broker": [6.0, 6.0]}


def test_a_run_that_is_not_clean_fails(run_seeds):
    figures, code = run_seeds(Verdict(), Verdict(missing=1, extra=2, state_mismatches=3, notes=("user u1",)))

    assert code == 1
    assert (figures["missing"], figures["extra"], figures["state_mismatches"]) == (1, 2, 3)
    assert figures["notes"] == ["seed 8: user u1"]
