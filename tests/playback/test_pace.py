"""When events are due."""

from __future__ import annotations

from streamrec.playback.pace import MAX_CHUNK, as_fast_as_possible, at_rate, at_speedup, in_time


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self):
        self.time_s = 100.0

    def now_s(self):
        return self.time_s

    def sleep(self, seconds):
        self.time_s += seconds


def play(times_ms, due_s, takes_s=0.0):
    """Answer when which events were handed on; the receiver of a chunk takes its time."""
    clock = Clock()
    chunks = []
    for chunk in in_time(times_ms, due_s, lambda time_ms: time_ms, now_s=clock.now_s, sleep=clock.sleep):
        chunks.append((round(clock.time_s - 100, 6), chunk))
        clock.time_s += takes_s
    return chunks


def test_a_rate_spaces_events_evenly():
    assert play([1, 2, 3], at_rate(10)) == [(0.0, [1]), (0.1, [2]), (0.2, [3])]


def test_a_speedup_keeps_the_recordings_distances():
    assert play([5_000, 5_000, 11_000], at_speedup(60)) == [(0.0, [5_000, 5_000]), (0.1, [11_000])]


def test_what_became_due_while_the_receiver_was_busy_is_handed_on_together():
    assert play([1, 2, 3, 4], at_rate(10), takes_s=0.25) == [(0.0, [1]), (0.25, [2, 3]), (0.5, [4])]


def test_as_fast_as_possible_fills_chunks():
    chunks = play(list(range(MAX_CHUNK + 1)), as_fast_as_possible())

    assert [(when_s, len(chunk)) for when_s, chunk in chunks] == [(0.0, MAX_CHUNK), (0.0, 1)]


def test_rows_without_a_time_come_with_the_one_before():
    assert play([None, 1_000, None, 2_000], at_speedup(10)) == [(0.0, [None, 1_000, None]), (0.1, [2_000])]
