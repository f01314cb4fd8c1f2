"""What is concluded from one look at a group after the other; no broker is needed for it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from streamrec.adapters.kafka.group_lag import GroupLag, Lag
from streamrec.adapters.kafka.offsets import Partitions
from streamrec.monitor.groups import STALLED_S, GroupWatch
from streamrec.monitor.observation import Observation
from streamrec.monitor.readiness import BLIND_S, CHECKS, causes

NOW_MS = 1_760_000_000_000
PARTITIONS = Partitions({"clicks": 1, "purchases": 1, "feedback": 1})
OURS, OTHER = "streamrec-interests", "a-shop"


def look_of(committed, *, end=(10, 10, 10), start=(0, 0, 0), since_s=(-1, -1, -1), members=1, group=OURS):
    """Return what the broker says of one group in all partitions; `since_s` are the ages of the records that wait."""
    since_ms = np.array([-1 if age < 0 else NOW_MS - age * 1_000 for age in since_s])
    arrays = (np.array(committed), np.array(start), np.array(end))
    of_group = GroupLag(np.arange(3), *arrays, since_ms, members)
    return Lag(NOW_MS, PARTITIONS, arrays[1], arrays[2], {group: of_group})


def state_after(*looks):
    """Return the state of the only group after polls at these times."""
    watch = GroupWatch()
    for now_s, lag in looks:
        (state,) = watch.look(lag, now_s)
    return state


def test_lag_is_what_waits_and_as_old_as_its_oldest_record():
    state = state_after((0.0, look_of([4, 10, -1], since_s=(30, -1, 70))))

    assert (state.lag, state.behind_s) == (6 + 0 + 10, 70.0)


def test_nothing_waits_at_the_end_and_beyond_it():
    state = state_after((0.0, look_of([10, 10, 12])))

    assert (state.lag, state.behind_s, state.beyond_end) == (0, 0.0, 1)


def test_what_was_not_read_yet_is_unknown_not_zero():
    assert state_after((0.0, look_of([4, 10, 10]))).behind_s is None
    assert state_after((0.0, look_of([4, 4, 10], since_s=(30, -1, -1)))).behind_s == 30.0


def test_a_position_that_does_not_move_while_records_wait_stalls_since_it_was_seen_first():
    still = look_of([4, 10, 10])

    assert state_after((100.0, still), (160.0, still)).stalled_s == 60.0


@pytest.mark.parametrize("later", [look_of([5, 10, 10]), look_of([10, 10, 10]), look_of([4, 10, 10], end=(4, 10, 10))])
def test_a_position_that_moves_or_waits_for_nothing_does_not_stall(later):
    assert state_after((100.0, look_of([4, 10, 10])), (160.0, later)).stalled_s == 0.0


def test_a_stall_starts_when_records_arrive_not_when_the_last_one_was_processed():
    idle, waiting = look_of([10, 10, 10]), look_of([10, 10, 10], end=(11, 10, 10))

    assert state_after((0.0, idle), (1_000.0, idle), (1_001.0, waiting), (1_002.0, waiting)).stalled_s == 2.0


def test_records_that_went_before_they_were_read_are_lost_and_not_those_nobody_committed_to():
    assert state_after((0.0, look_of([4, 10, -1], start=(7, 0, 9)))).lost == 3


def test_the_state_of_changed_partitions_is_reset():
    changed = Lag(NOW_MS, Partitions({"clicks": 1}), np.zeros(1, int), np.full(1, 5))
    changed.groups[OURS] = GroupLag(np.arange(1), np.zeros(1, int), changed.start, changed.end, np.full(1, -1), 1)

    assert state_after((0.0, look_of([4, 10, 10])), (500.0, changed)).stalled_s == 0.0


def why(state, *, faults=None, read_s_ago=0.0, lag_limit_s=10.0):
    read_s = None if read_s_ago is None else time.monotonic() - read_s_ago
    return [
        cause.text for cause in causes(Observation(lag_limit_s, groups=[state], faults=faults or {}, read_s=read_s))
    ]


def test_each_kind_of_cause_has_a_word_of_its_own_and_a_next_step():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.next_step.endswith(".") and check.name.islower() for check in CHECKS)


def test_a_healthy_pipeline_is_ready():
    assert why(state_after((0.0, look_of([9, 10, 10], since_s=(9, -1, -1))))) == []


def test_every_cause_is_named():
    late = state_after((0.0, look_of([4, 10, 10], since_s=(30, -1, -1), members=0)))
    standing = state_after((0.0, look_of([4, 10, 12])), (STALLED_S + 1, look_of([4, 10, 12])))

    assert why(late) == [
        "streamrec-interests has no members",
        "streamrec-interests is 30 s behind, more than 10 s",
    ]
    assert "has been stalled for 121 s" in why(standing)[0]
    assert "beyond the end of 1 partitions" in why(standing)[1]
    assert why(late, faults={"Redis": "refused"})[0] == "Redis does not answer: refused"


def test_what_may_wait_for_longer_may_stall_for_longer():
    """A single look sees no standstill; what it sees, the age of the records, must come to the same verdict."""
    waiting = look_of([4, 10, 10], since_s=(STALLED_S + 1, -1, -1))
    state = state_after((0.0, waiting), (STALLED_S + 1, waiting))

    assert why(state, lag_limit_s=2 * STALLED_S) == why(state_after((0.0, waiting)), lag_limit_s=2 * STALLED_S) == []
    assert why(state)
    assert why(state_after((0.0, waiting)))


def test_other_peoples_groups_do_not_decide():
    assert why(state_after((0.0, look_of([0, 0, 0], since_s=(99, 99, 99), members=0, group=OTHER)))) == []


def test_a_monitor_that_sees_nothing_is_not_ready():
    idle = state_after((0.0, look_of([10, 10, 10])))

    assert why(idle, read_s_ago=None) == ["consumer groups were not read yet"]
    assert why(idle, read_s_ago=BLIND_S + 1) == ["consumer groups were last read 16 s ago"]
    assert why(idle, read_s_ago=99.0, faults={"Kafka": "away"}) == ["Kafka does not answer: away"]


def test_of_a_partition_that_no_broker_leads_nothing_is_concluded_but_that():
    state = state_after((0.0, look_of([10, 4, 10], start=(0, -1, 0), end=(10, -1, 10))))
    assert (state.lag, state.lost, state.beyond_end, state.leaderless) == (0, 0, 0, 1)
    assert why(state) == ["streamrec-interests waits for 1 partitions without a leader"]


def test_a_topic_that_does_not_exist_is_named():
    left = Lag(NOW_MS, Partitions({"purchases": 1, "feedback": 1}), np.zeros(2, int), np.zeros(2, int))
    left.groups[OURS] = GroupLag(np.arange(2), np.zeros(2, int), left.start, left.end, np.full(2, -1), 1)
    assert why(state_after((0.0, left))) == ["streamrec-interests reads topics that do not exist: clicks"]
