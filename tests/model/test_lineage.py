from __future__ import annotations

import pytest

from streamrec.model.training import lineage as module
from streamrec.model.training.lineage import Lineage

HOUR_NS = 3_600 * 10**9


@pytest.fixture
def clock(monkeypatch):
    now = [1_760_000_000 * 10**9]
    monkeypatch.setattr(module.time, "time_ns", lambda: now[0])
    return now


def keep(lineage, number):
    return lineage.keep(lineage.next_name(), events=number, loss=None, checkpoint=number)


def test_no_two_versions_share_a_name():
    lineage = Lineage()
    first = keep(lineage, 1)
    again = lineage.keep(first, events=1, loss=None, checkpoint=2)
    lineage.roll_back(first, "by hand")
    third = keep(lineage, 3)
    restarted = Lineage()
    restarted.load(lineage.state(), {1, 2, 3})
    assert len({first, again, third, keep(restarted, 4)}) == 4


def test_versions_after_the_restored_one_are_rolled_back():
    lineage = Lineage()
    names = [keep(lineage, number) for number in (1, 2, 3)]
    lineage.roll_back(names[0], "worse")
    keep(lineage, 4)
    record = lineage.record(drifts=0)
    assert [version.status for version in record.versions] == ["good", "rolled back", "rolled back", "serving"]
    assert record.versions[1].because == "worse"
    assert record.versions[3].went_on_from == names[0] == lineage.last_good


def test_what_is_kept_and_remembered_is_bounded(clock):
    lineage = Lineage()
    for number in range(1, 2_000):
        clock[0] += HOUR_NS // 8
        keep(lineage, number)
        if number % 3 == 0:
            lineage.promote()
        if number % 200 == 0:
            lineage.roll_back(lineage.last_good, "worse")
        elif number % 50 == 0:
            lineage.refuse(lineage.next_name(), "not finite", events=number)
            lineage.roll_back(lineage.last_good, "not finite")
    kept = [version for version in lineage.versions if version.checkpoint]
    good = [version for version in kept if version.status == "good"]
    days = {version.made_at_ms // 86_400_000 for version in good}
    assert len(kept) <= 1 + module.KEPT_NEWEST + module.KEPT_ASIDE + 2 + module.KEPT_HOURLY + module.KEPT_DAILY
    assert len(lineage.versions) <= len(kept) + module.REMEMBERED
    assert len(days) == module.KEPT_DAILY


def test_the_version_on_trial_is_kept_however_long_that_takes():
    lineage = Lineage()
    candidate = keep(lineage, 1)
    for number in range(2, 40):
        keep(lineage, number)
    assert lineage.candidate == candidate
    assert lineage.checkpoint_of(candidate) == 1


def test_a_checkpoint_that_is_gone_is_no_longer_kept():
    lineage = Lineage()
    names = [keep(lineage, number) for number in (1, 2)]
    lineage.promote()
    again = Lineage()
    again.load(lineage.state(), {2})
    assert again.checkpoint_of(names[0]) == 0
    assert again.last_good == ""
