"""What is remembered of lists, in memory and in Redis: how they were made, and which are to be made again."""

from __future__ import annotations

import msgspec
from builders import NOW_MS
from stored_lists import RedisLists, encoded, put, slices, topk

from streamrec.adapters.redis import RedisListMarks, list_marks
from streamrec.adapters.redis.keys import Keys
from streamrec.adapters.redis.list_scan import ListScan
from streamrec.service.list_marks import Census, Facts, Made, Mark
from streamrec.service.list_ports import ListOrigin

FACTS = Facts(version="v", events=1_000, known_items=30, other_items=10, top_k=50)


def mark(user_id, made, score=1, short_at=None):
    return Mark(user_id, made, score, short_at)


def test_marks_say_how_a_list_was_made_last(store):
    store.advance(
        slices(0, 1),
        [mark("u1", Made.BEHIND, 900), mark("u2", Made.POOR, NOW_MS, 40), mark("u3", Made.COMPLETE, 400, 39)],
    )
    assert store.marks.count(FACTS) == Census(poor=1, far=1, short=1, behind=1, complete=1, all_short=2)
    assert store.marks.short(9, below=40) == ["u3"]
    assert store.marks.newest(Made.COMPLETE, 9, below=500) == ["u3"]
    assert store.marks.newest(Made.COMPLETE, 9, below=400) == []

    store.advance(slices(1, 2), [mark("u2", Made.COMPLETE, 1_000), mark("u3", Made.BEHIND, 1_000)])
    assert store.marks.count(FACTS) == Census(behind=2, complete=1)
    assert store.marks.newest(Made.BEHIND, 9) == ["u3", "u1"]
    assert store.marks.newest(Made.BEHIND, 1) == ["u3"]


def test_a_list_that_was_made_meanwhile_keeps_its_marks(store):
    made = [topk("u1", "a"), topk("u2", "a"), topk("u3", "a")]
    put(store, made, slices(0, 1))
    again = [topk("u1", "b"), topk("u2", "b", version=2)]
    put(store, again, slices(1, 2))
    store.advance(slices(2, 3), [mark(user_id, Made.BEHIND, 700, 30) for user_id in ("u1", "u2", "u3")])

    store.marks.mark([mark(f"u{number}", Made.COMPLETE, 900) for number in (1, 2, 3)], encoded(*made))
    assert store.marks.newest(Made.COMPLETE, 9) == ["u3"]
    assert store.marks.newest(Made.BEHIND, 9) == store.marks.short(9, below=40) == ["u2", "u1"]
    store.marks.mark([mark("u1", Made.POOR, NOW_MS, 12)], encoded(again[0]))
    assert store.marks.newest(Made.POOR, 9) == ["u1"]
    assert store.marks.short(9, below=20) == ["u1"]
    store.marks.mark([], [])


def test_marks_of_lists_that_are_no_more_are_dropped(store):
    users = ("old", "newer", "gone", "back")
    store.advance(slices(0, 1), [mark(user_id, Made.BEHIND, 5, 3) for user_id in users])
    put(store, [topk("old", "a"), topk("newer", "a", version=2), topk("back", "a")], slices(1, 2))
    seen = dict(zip(users, [ListOrigin(1, NOW_MS), ListOrigin(1, NOW_MS), None, None], strict=True))
    store.marks.drop(seen)
    assert sorted(store.marks.newest(Made.BEHIND, 9)) == sorted(store.marks.short(9, below=4)) == ["back", "newer"]
    store.marks.drop({})


def test_lists_of_versions_that_were_rolled_back_are_marked(store, monkeypatch):
    monkeypatch.setattr(list_marks, "MOVED_TOGETHER", 2)
    behind = [mark(f"b{events}", Made.BEHIND, events) for events in (600, 700, 701, 702, 703, 704)]
    complete = [mark(f"c{events}", Made.COMPLETE, events) for events in (700, 701)]
    store.advance(slices(0, 1), [*behind, *complete, mark("poor", Made.POOR, NOW_MS)])
    store.marks.undo(above=700)

    poor = store.marks.newest(Made.POOR, 9)
    assert poor[:4] == ["poor", "b704", "b703", "b702"]
    assert sorted(poor[4:]) == ["b701", "c701"]
    assert store.marks.newest(Made.BEHIND, 9) == ["b700", "b600"]
    assert store.marks.newest(Made.COMPLETE, 9) == ["c700"]


def test_facts_come_back_as_kept(store):
    assert store.marks.facts() == Facts()
    store.marks.keep(FACTS)
    assert store.marks.facts() == FACTS


def test_marks_are_bounded_and_the_oldest_go(redis_url, monkeypatch):
    monkeypatch.setattr(list_marks, "MAX_MARKED", 2)
    store = RedisLists(redis_url)
    store.advance(slices(0, 1), [mark(f"u{number}", Made.BEHIND, number) for number in range(5)])
    store.marks.trim()
    assert store.marks.newest(Made.BEHIND, 9) == ["u4", "u3"]


def test_one_process_at_a_time_makes_lists_again(redis_url, redis_client):
    first, second = RedisListMarks(redis_url), RedisListMarks(redis_url)
    assert first.claim()
    assert not second.claim()
    assert first.claim()
    redis_client.delete(Keys().lists("claim"))
    assert second.claim()


def test_a_scan_marks_what_is_short_or_of_another_version(redis_url):
    store = RedisLists(redis_url)
    full = [f"i{number}" for number in range(50)]
    now = [topk("good", *full), topk("short", "a"), msgspec.structs.replace(topk("old", *full), model_version="m0")]
    put(store, now, slices(0, 1))
    store.put_default(topk("", "a"))
    facts = msgspec.structs.replace(FACTS, version="m1")
    *_, last = ListScan(redis_url).run(facts)
    assert last == (3, 2)
    assert sorted(store.marks.newest(Made.POOR, 9)) == ["old", "short"]
