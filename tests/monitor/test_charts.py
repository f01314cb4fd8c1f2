"""Charts: every line is labelled at its end, in bounds, and readable without colours."""

from __future__ import annotations

from itertools import pairwise

import pytest

from streamrec.monitor.charts import HEIGHT, LONG_SPANS_S, POINTS, WIDTH, Measure, Series, draw, thin
from streamrec.monitor.words import duration


def flat(label, value, *, seconds=60, style="hue-1"):
    return Series(label, [(float(at_s), value) for at_s in range(seconds)], style)


def test_a_chart_without_values_is_none():
    assert draw([], Measure(str), now_s=60.0) is None
    assert draw([Series("a", [], "hue-1")], Measure(str), now_s=60.0) is None
    assert draw([flat("a", 0.0)], Measure(str, logarithmic=True), now_s=60.0) is None


@pytest.mark.parametrize("values", [[0.0] * 5, [10.0] * 5, [5.0] * 5, [0.0, 0.0, 10.0, 10.0, 5.0]])
def test_labels_neither_overlap_nor_leave_the_plot(values):
    drawn = draw([flat(str(n), value) for n, value in enumerate(values)], Measure(str, 10.0), now_s=60.0)
    heights = [label.y for label in drawn.labels]

    assert len(heights) == len(values) + 1
    assert all(below - above >= 14 for above, below in pairwise(heights))
    assert heights[0] >= 8
    assert heights[-1] <= HEIGHT - 4


def test_the_limit_is_a_line_in_the_plot_also_when_it_is_far_away():
    drawn = draw([flat("a", 0.02)], Measure(duration, 10.0, timed=True), now_s=60.0)

    assert [(label.name, label.value) for label in drawn.labels] == [("limit", "10 s"), ("a", "20 ms")]
    assert 0 < drawn.labels[0].line_y < drawn.labels[1].line_y < HEIGHT
    assert drawn.paths[-1] == (f"M0 {drawn.labels[0].line_y}H{WIDTH}", "limit-line")


@pytest.mark.parametrize(
    ("seconds", "times"),
    [
        (1, ["3 min ago", "2 min", "1 min", "now"]),
        (350, ["6 min ago", "4 min", "2 min", "now"]),
        (900, ["15 min ago", "10 min", "5 min", "now"]),
        (3_000, ["1 h ago", "40 min", "20 min", "now"]),
        (86_000, ["24 h ago", "16 h", "8 h", "now"]),
        (10_000_000, ["30 days ago", "20 days", "10 days", "now"]),
    ],
)
def test_a_chart_reaches_back_no_further_than_needed(seconds, times):
    drawn = draw([Series("a", [(0.0, 1.0), (seconds, 1.0)], "")], Measure(str), now_s=seconds, spans_s=LONG_SPANS_S)

    assert drawn.times == times


@pytest.mark.parametrize("greatest", [0.001, 0.03, 0.9, 1.0, 12.0, 700.0, 4_000.0, 1e7])
@pytest.mark.parametrize("timed", [False, True])
def test_an_axis_has_a_few_round_marks(greatest, timed):
    drawn = draw([flat("a", greatest)], Measure(lambda value: f"{value:.6g}", timed=timed), now_s=60.0)

    assert 2 <= len(drawn.ticks) <= 5
    assert drawn.ticks[0][1] == "0"
    assert all(0 < y < HEIGHT for y, _ in drawn.ticks)
    assert all(len(text) <= 7 for _, text in drawn.ticks)


def test_a_logarithmic_axis_is_marked_by_powers_of_ten():
    drawn = draw([flat("a", 0.042)], Measure(duration, 10.0, logarithmic=True), now_s=60.0)

    assert [text for _, text in drawn.ticks] == ["10 ms", "100 ms", "1 s", "10 s"]


def test_a_line_is_interrupted_where_nothing_was_recorded_for_long():
    values = [(float(at_s), 1.0) for at_s in range(180) if not 60 <= at_s < 120]
    drawn = draw([Series("a", values, "hue-1")], Measure(str), now_s=180.0)

    assert drawn.paths[0][0].count("M") == 2


def test_the_newest_values_are_told_in_words():
    drawn = draw([flat("recall", 0.1), flat("trainer", 2.0)], Measure(duration, 10.0), now_s=60.0)

    assert drawn.summary == "recall 100 ms, trainer 2.0 s"


def test_what_was_recorded_before_the_chart_begins_is_left_out():
    assert thin([(0.0, 5.0), (880.0, 1.0)], 900.0, 60.0) == [None] * 40 + [1.0] + [None] * (POINTS - 41)
