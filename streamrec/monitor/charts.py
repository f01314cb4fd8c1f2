"""Geometry of line charts over time: lines, ticks and labels at the lines; rendered as SVG by `chart.html`.

A plot is stretched to the available width, texts are not: ticks and labels are in separate columns beside it, and share
only its vertical axis.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

POINTS = 60
"""Number of points of a line, each the mean over its share of the time shown."""

WIDTH, HEIGHT = 600, 156
"""Width of a plot in stretchable units, and its height in pixels."""

SPANS_S = (180.0, 360.0, 540.0, 900.0)
"""Time spans: a chart shows the shortest one that includes the first value, at most the last one."""

LONG_SPANS_S = (*SPANS_S, *(hours * 3_600.0 for hours in (1, 3, 6, 12, 24, 72, 144, 720)))

_BRIDGED = 3
"""Maximum gap in points that does not interrupt a line: a poll may take longer than the interval between two points."""

_TOP, _BOTTOM = 8, HEIGHT - 6
"""Ends of the vertical axis, in pixels."""

_LABEL_PX = 15
"""Minimum distance between labels."""

_STEPS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 3_600)

Values = Sequence[tuple[float, float]]
"""Instants in seconds and values, oldest first."""


class Series(NamedTuple):
    """A line.

    Attributes
    ----------
    label
        Name, shown at its end.
    values
        Instants in seconds and values, oldest first.
    style
        CSS classes for its hue and dashes.
    """

    label: str
    values: Values
    style: str


class Label(NamedTuple):
    """A text at the end of a line, possibly above or below it, connected by a leader."""

    name: str
    value: str
    style: str
    line_y: int
    y: int


class Chart(NamedTuple):
    """A chart in plot coordinates.

    Attributes
    ----------
    ticks
        Heights and texts of the vertical axis.
    paths
        Path data and style of each line, the limit last.
    labels
        From top to bottom.
    times
        Texts of the horizontal axis, from left to right.
    summary
        The latest values as text.
    """

    ticks: list[tuple[int, str]]
    paths: list[tuple[str, str]]
    labels: list[Label]
    times: list[str]
    summary: str


class Measure(NamedTuple):
    """The quantity of a chart.

    Attributes
    ----------
    words
        Formats a value.
    limit
        Limit, drawn as a separate line; `None` for none.
    logarithmic
        Whether the vertical axis is logarithmic; values that are not positive are then omitted.
    timed
        Whether values are seconds, for which ticks are rounded differently.
    """

    words: Callable[[float], str]
    limit: float | None = None
    logarithmic: bool = False
    timed: bool = False


class _Axis(NamedTuple):
    """A vertical axis: position of a value in pixels from the top, and its ticks."""

    height: Callable[[float], int]
    ticks: list[float]


def draw(
    series: Sequence[Series], measure: Measure, *, now_s: float, spans_s: Sequence[float] = SPANS_S
) -> Chart | None:
    """Return a chart, `None` if no line has a value.

    Parameters
    ----------
    series
        The lines.
    measure
        The quantity.
    now_s
        Time of the right edge.
    spans_s
        See `SPANS_S`.
    """
    words, limit = measure.words, measure.limit
    first_s = min((line.values[0][0] for line in series if line.values), default=now_s)
    span_s = next((span for span in spans_s if now_s - first_s <= span), spans_s[-1])
    lines = [(line, thin(line.values, now_s, span_s)) for line in series]
    if measure.logarithmic:
        lines = [(line, [v if v and v > 0 else None for v in values]) for line, values in lines]
    lines = [(line, values) for line, values in lines if any(value is not None for value in values)]
    if not lines:
        return None
    shown = [value for _, values in lines for value in values if value is not None]
    greatest = max(shown if limit is None else [*shown, limit])
    axis = _logarithmic(min(shown), greatest) if measure.logarithmic else _linear(greatest, timed=measure.timed)
    paths = [(_path(values, axis.height), line.style) for line, values in lines]
    labels = []
    for line, values in lines:
        y = axis.height(next(value for value in reversed(values) if value is not None))
        labels.append(Label(line.label, words(line.values[-1][1]), line.style, y, y))
    summary = ", ".join(f"{label.name} {label.value}" for label in labels)
    if limit is not None:
        y = axis.height(limit)
        paths.append((f"M0 {y}H{WIDTH}", "limit-line"))
        labels.append(Label("limit", round_words(words(limit)), "limit-line", y, y))
    return Chart(
        ticks=[(axis.height(value), round_words(words(value))) for value in axis.ticks],
        paths=paths,
        labels=_apart(labels),
        times=[_ago(span_s), *(_ago(span_s * left / 3).removesuffix(" ago") for left in (2, 1)), "now"],
        summary=summary,
    )


def thin(values: Values, now_s: float, span_s: float = SPANS_S[-1]) -> list[float | None]:
    """Return the means of `POINTS` equal intervals up to now, `None` for intervals without values.

    Examples
    --------
    >>> thin([(0.0, 5.0), (899.0, 1.0), (900.0, 3.0)], 900.0)[-1]
    2.0
    """
    sums, counts = [0.0] * POINTS, [0] * POINTS
    for at_s, value in values:
        place = min(POINTS - 1, math.floor((at_s - (now_s - span_s)) / span_s * POINTS))
        if place >= 0:
            sums[place] += value
            counts[place] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def round_words(text: str) -> str:
    """Return a round figure without its decimals.

    Examples
    --------
    >>> round_words("10.0 s"), round_words("2.05")
    ('10 s', '2.05')
    """
    return re.sub(r"\.0(?!\d)", "", text)


def _path(values: Iterable[float | None], height: Callable[[float], int]) -> str:
    """Return path data; a single value is a dot, visible by round line caps."""
    parts: list[str] = []
    last = -_BRIDGED - 2
    for place, value in enumerate(values):
        if value is None:
            continue
        x, y = (place + 1) * WIDTH // POINTS, height(value)
        parts.append(f"L{x} {y}" if place - last <= _BRIDGED + 1 else f"M{x} {y}h0")
        last = place
    return "".join(parts)


def _linear(greatest: float, *, timed: bool) -> _Axis:
    step = _step(greatest / 4.2, timed=timed)
    top = max(greatest * 1.05, step)
    ticks = [step * n for n in range(int(top / step) + 1)]
    return _Axis(lambda value: round(_BOTTOM - (_BOTTOM - _TOP) * value / top), ticks)


def _step(least: float, *, timed: bool) -> float:
    """Return the smallest round number that is at least this."""
    if timed and least <= _STEPS_S[-1]:
        return next(step for step in _STEPS_S if step >= least)
    power = 10.0 ** math.floor(math.log10(max(least, 1e-3)))
    return next(mark * power for mark in (1, 2, 5, 10) if mark * power >= least)


def _logarithmic(least: float, greatest: float) -> _Axis:
    low = math.floor(math.log10(least))
    high = max(low + 1, math.ceil(math.log10(greatest)))
    ticks = [10.0**power for power in range(low, high + 1)]
    slope = (_BOTTOM - _TOP) / (high - low)
    return _Axis(lambda value: round(_BOTTOM - slope * (math.log10(value) - low)), ticks)


def _apart(labels: Iterable[Label]) -> list[Label]:
    """Return the labels from top to bottom, each as near to its line as possible."""
    ordered = sorted(labels, key=lambda label: label.line_y)
    heights = [float(label.line_y) for label in ordered]
    for _ in range(2):
        bottom = HEIGHT - 4.0
        for place in reversed(range(len(heights))):
            heights[place] = min(heights[place], bottom)
            bottom = heights[place] - _LABEL_PX
        top = float(_TOP)
        for place, height in enumerate(heights):
            heights[place] = max(height, top)
            top = heights[place] + _LABEL_PX
    return [label._replace(y=round(height)) for label, height in zip(ordered, heights, strict=True)]


def _ago(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:g} days ago"
    if seconds >= 3_600:
        return f"{seconds / 3_600:g} h ago"
    return f"{seconds / 60:g} min ago"
