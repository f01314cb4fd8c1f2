"""Lists of versions that were rolled back are marked, and made again."""

from __future__ import annotations

from streamrec.service.list_marks import Made
from streamrec.service.rebuild_lists import LOOK_S, QUIET_S


def test_lists_of_a_version_that_was_rolled_back_are_made_again(bench):
    bench.learn(1_000)
    bench.act("before")
    bench.learn(1_000)
    bench.run(QUIET_S + 2 * LOOK_S)
    bench.learn(1_010)
    bench.act("after")
    bench.learn(1_010)
    bench.run(QUIET_S + 2 * LOOK_S)
    made = len(bench.again_for)
    bench.run(60.0)
    assert len(bench.again_for) == made

    bench.learn(1_000, rollbacks=(1, 1_000))
    bench.run(LOOK_S)
    assert bench.store.marks.facts().rollbacks == 1
    bench.run(2 * LOOK_S)
    assert bench.again_for[made:] == ["after"]
    assert bench.rebuild.census.waiting == 0
    bench.rebuild = bench.again()
    bench.run(60.0)
    assert bench.again_for[made:] == ["after"], "once for each rollback"
    bench.learn(900, rollbacks=(3, 900))
    bench.run(QUIET_S + 2 * LOOK_S)
    assert sorted(bench.again_for[made + 1 :]) == ["after", "before"], "it cannot be told which of them two made"


def test_lists_that_a_version_made_while_it_was_rolled_back_are_poor(bench):
    bench.learn(1_000)
    put_lists = bench.store.put_lists

    def put_lists_before_a_rollback(*arguments):
        bench.learn(900, rollbacks=(1, 900))
        return put_lists(*arguments)

    bench.store.put_lists = put_lists_before_a_rollback
    bench.act("u1")
    assert bench.store.marks.newest(Made.POOR, 9) == ["u1"]


def test_rollbacks_before_anybody_remembered_them_are_none(bench):
    for rollbacks in (None, (2, 10)):
        bench.learn(1_000, rollbacks=rollbacks)
        bench.act("u1")
        bench.learn(1_000, rollbacks=rollbacks)
        bench.run(QUIET_S + 2 * LOOK_S)
    assert bench.store.marks.facts().rollbacks == 2
    assert bench.store.marks.newest(Made.POOR, 9) == []
