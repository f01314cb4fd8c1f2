"""Lines over time as SVG, drawn by pygal in the colours of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

import pygal  # type: ignore[import-untyped]  # it comes without types
from pygal.style import Style  # type: ignore[import-untyped]  # it comes without types

POINTS = 60
"""Points of a line: each is the mean of what was recorded in its share of the time shown."""

SHOWN_S = 900.0
"""A chart goes back so far."""

_MARKS = tuple(mark * 10.0**power for power in range(-3, 5) for mark in (1, 3))
"""Where a logarithmic axis is marked."""

_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="var(--ink)",
    foreground_strong="var(--ink)",
    foreground_subtle="var(--rule)",
    colors=("var(--line-1)", "var(--line-2)", "var(--line-3)", "var(--line-4)"),
    font_family="inherit",
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=13,
    stroke_width="2",
    transition="none",
    guide_stroke_color="var(--rule)",
    guide_stroke_dasharray="1,0",
    major_guide_stroke_color="var(--rule)",
    major_guide_stroke_dasharray="1,0",
)


def line_chart(lines: Mapping[str, Sequence[tuple[float, float]]], *, now_s: float, logarithmic: bool = False) -> str:
    """Return a chart, empty where no line has a value.

    Parameters
    ----------
    lines
        By name, instants in seconds and values, oldest first.
    now_s
        The right edge.
    logarithmic
        Whether the vertical axis is; values that are not above 0 are then left out.
    """
    thinned = {name: thin(values, now_s) for name, values in lines.items()}
    if logarithmic:
        thinned = {name: [v if v and v > 0 else None for v in values] for name, values in thinned.items()}
    shown = {name: values for name, values in thinned.items() if any(value is not None for value in values)}
    if not shown:
        return ""
    chart = pygal.Line(
        style=_STYLE,
        js=[],
        width=640,
        height=230,
        margin=6,
        show_dots=False,
        disable_xml_declaration=True,
        legend_at_bottom=True,
        truncate_label=-1,
        legend_at_bottom_columns=min(4, len(shown)),
        logarithmic=logarithmic,
        value_formatter=lambda value: f"{value:,.3g}",
    )
    least, greatest = _span(shown)
    if logarithmic:
        chart.y_labels = [mark for mark in _MARKS if least / 3.5 < mark < greatest * 3.5]
    else:
        chart.range, chart.max_scale = (0, max(greatest, 1e-3)), 5
    chart.add_xml_filter(_without_scripts)
    minutes = SHOWN_S / 60
    chart.x_labels = ["" if n % 20 else f"{minutes * (1 - n / POINTS):.0f} min ago" for n in range(POINTS)]
    for name, values in shown.items():
        chart.add(name, values)
    return str(chart.render(is_unicode=True))


def thin(values: Sequence[tuple[float, float]], now_s: float) -> list[float | None]:
    """Return the means of `POINTS` equal stretches of time up to now, `None` where nothing was recorded.

    Examples
    --------
    >>> thin([(0.0, 5.0), (899.0, 1.0), (900.0, 3.0)], 900.0)[-1]
    2.0
    """
    sums, counts = [0.0] * POINTS, [0] * POINTS
    for at_s, value in values:
        place = min(POINTS - 1, int((at_s - (now_s - SHOWN_S)) / SHOWN_S * POINTS))
        if place >= 0:
            sums[place] += value
            counts[place] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def _without_scripts(svg: Element) -> Element:
    """Leave out what makes tooltips: the page lets no script in that is not a file of its own."""
    for parent in svg.iter():
        for script in [child for child in parent if child.tag == "script"]:
            parent.remove(script)
    return svg


def _span(lines: Mapping[str, Sequence[float | None]]) -> tuple[float, float]:
    values = [value for line in lines.values() for value in line if value is not None]
    return min(values), max(values)
