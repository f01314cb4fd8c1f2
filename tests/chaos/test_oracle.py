"""What the oracle makes of a log that lost something, and how long a worker is said to have stood still."""

from __future__ import annotations

from collections import Counter

import pytest

from streamrec.chaos.headway import Headway
from streamrec.chaos.load import Acknowledged
from streamrec.chaos.oracle import Ledger, judge_log
from streamrec.contracts.topics import CLICKS
from streamrec.domain.event import EventType
from streamrec.service.batch import TopicPartition

SOURCE = TopicPartition(CLICKS, 0)
PLACE = (int(EventType.CLICK), 0, 1)


def acknowledged(records, poison=()):
    noted = Acknowledged()
    noted.records[SOURCE] = records
    noted.poison.update(poison)
    return noted


def test_a_log_with_everything_that_was_acknowledged_is_clean():
    ledger = Ledger(records=Counter({SOURCE: 3}), refused={PLACE: "bad-json"})

    assert judge_log(ledger, acknowledged(3, {PLACE: "bad-json"})).clean


@pytest.mark.parametrize(
    ("records", "refused"),
    [
        ({SOURCE: 2}, {PLACE: "bad-json"}),
        ({}, {PLACE: "bad-json"}),
        ({SOURCE: 3}, {}),
        ({SOURCE: 3}, {PLACE: "bad-time"}),
        ({SOURCE: 3}, {PLACE: "bad-json", (0, 0, 2): "bad-json"}),
    ],
    ids=["one lost", "a partition lost", "poison applied", "another reason", "a good one refused"],
)
def test_a_log_that_lost_or_misjudged_a_record_is_not(records, refused):
    verdict = judge_log(Ledger(records=Counter(records), refused=refused), acknowledged(3, {PLACE: "bad-json"}))

    assert verdict.missing > 0
    assert verdict.notes


@pytest.fixture
def headway():
    """Return one that watches nothing; a test writes its samples: time, position, lag."""
    watching = object.__new__(Headway)
    watching.samples = {"interests": [(0.0, 5, 0), (1.0, 5, 4), (2.0, 5, 8), (4.0, 9, 2)], "recall": [(0.0, 7, 0)]}
    return watching


def test_a_worker_has_recovered_when_it_moves_on_or_has_nothing_to_do(headway):
    headway.samples["recall"].append((1.5, 7, 0))

    assert headway.recovery_s(1.0) == 3.0
    assert headway.longest_stall_s() == 4.0, "from when nothing waited until it moved on"


def test_what_was_done_just_before_a_fault_is_no_recovery(headway):
    headway.samples = {"interests": [(0.9, 5, 8), (1.1, 7, 8), (1.2, 7, 9), (9.0, 8, 9)]}

    assert headway.recovery_s(1.0) == 8.0


def test_a_stall_that_lasts_to_the_end_and_one_that_nobody_could_see_count(headway):
    headway.samples = {"interests": [(0.0, 5, 8), (6.0, 9, 8), (7.0, 9, 8), (9.0, 9, 8)]}
    assert headway.longest_stall_s() == 6.0
    headway.samples["interests"].append((14.0, 9, 8))
    assert headway.longest_stall_s() == 8.0


def test_a_worker_that_never_recovered_took_until_the_end(headway):
    headway.samples["recall"] = [(0.0, 7, 0), (1.5, 7, 3), (9.0, 7, 3)]

    assert headway.recovery_s(1.0) == 8.0
