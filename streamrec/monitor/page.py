"""Renders the dashboard as HTML. Sections are sent again when they change, the frame only once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import jinja2
import numpy as np

from streamrec.adapters.kafka.dead_letters import DeadLetter
from streamrec.contracts.derived import TopKList
from streamrec.domain.feedback import WEIGHTS, Weights
from streamrec.domain.interest import InterestState
from streamrec.monitor.cards import WORDS, cards, verdict_state
from streamrec.monitor.charts import HEIGHT, LONG_SPANS_S, POINTS, WIDTH, Chart, Measure, Series, draw
from streamrec.monitor.groups import GroupState
from streamrec.monitor.observation import STAGES, Observation
from streamrec.monitor.words import duration, interest, kind, percent
from streamrec.visible import visible

SECTIONS = (
    "status",
    "lag",
    "freshness",
    "hits",
    "throughput",
    "loss",
    "model",
    "workers",
    "groups",
    "partitions",
    "lists",
    "letters",
    "retention",
)
"""Sections in order."""

SHOWN_PARTITIONS = 200
SHOWN_VERSIONS = 12
SHOWN_COHORTS = 30
SHOWN_BYTES = 300
SHOWN_EVENTS = 20
SHOWN_ITEMS = 20


class PartitionRow(NamedTuple):
    """A row of the partition table."""

    group: str
    topic: str
    partition: int
    committed: int
    end: int
    lag: int
    behind_s: float | None
    standing_s: float


class Page:
    """Writes HTML."""

    def __init__(self) -> None:
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("streamrec.monitor"), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {"duration": duration, "at": _at, "percent": percent, "kind": kind}
        environment.filters |= {"printable": _printable}
        self._templates = environment
        self._charts: dict[str, Chart | None] = {}

    def sections(self, now: Observation, *, draw: bool) -> dict[str, str]:
        """Return the HTML of each section.

        Parameters
        ----------
        now
            What is known.
        draw
            Whether to redraw charts, which is most of the work.
        """
        if draw or not self._charts:
            self._charts = _charts(now)
        causes, warnings = now.causes, now.warnings
        context = {
            "now": now,
            "causes": causes,
            "warnings": warnings,
            "state": verdict_state(causes, warnings),
            "words": WORDS,
            "cards": cards(now, causes, warnings),
            "named": {(cause.name, cause.subject) for cause in causes},
            "charts": self._charts,
            "stages": STAGES,
            "plot": {"width": WIDTH, "height": HEIGHT},
            "rows": rows(now),
            "shown_partitions": SHOWN_PARTITIONS,
            "versions": list(reversed(now.versions.versions))[:SHOWN_VERSIONS],
            "cohorts": [day for day in now.retention[""].days if day.new_users][-SHOWN_COHORTS:][::-1]
            if "" in now.retention
            else [],
        }
        return {name: self._render(f"{name}.html", context) for name in SECTIONS}

    def index(self, now: Observation) -> str:
        """Return the whole page."""
        return self._render("index.html", {"sections": self.sections(now, draw=True), "healthy": not now.causes})

    def user(self, user_id: str, state: InterestState, topk: TopKList | None, weights: Weights = WEIGHTS) -> str:
        """Return the page of a user; weights by kind of event."""
        events = state.sequence[: -SHOWN_EVENTS - 1 : -1]
        return self._render(
            "user.html",
            {
                "user_id": user_id,
                "sentences": interest(state, weights),
                "events": events,
                "topk": topk,
                "shown": SHOWN_ITEMS,
            },
        )

    def refused(self, because: str) -> str:
        """Return an error page."""
        return self._render("refused.html", {"because": because})

    def _render(self, template: str, context: dict[str, Any]) -> str:
        return self._templates.get_template(template).render(context)


def rows(now: Observation) -> list[PartitionRow]:
    """Return a bounded number of partitions, those furthest behind first, then others of the pipeline."""
    found: list[PartitionRow] = []
    for group in now.groups:
        found += _rows_of(now, group)
    found.sort(key=lambda row: (-row.lag, row.group, row.topic, row.partition))
    return found[:SHOWN_PARTITIONS]


def _rows_of(now: Observation, group: GroupState) -> list[PartitionRow]:
    assert now.lag is not None
    part, lag = group.partitions, group.partitions.lag
    most = np.argsort(-lag, kind="stable")[:SHOWN_PARTITIONS].tolist()
    behind_s = part.behind_s(now.lag.at_ms)
    return [
        PartitionRow(
            group.name,
            *now.lag.partitions.sources[int(part.index[at])],
            int(part.committed[at]),
            int(part.end[at]),
            int(lag[at]),
            float(behind_s[at]) if np.isfinite(behind_s[at]) else None,
            float(group.standing_s[at]),
        )
        for at in most
        if group.ours or lag[at]
    ]


def _charts(now: Observation) -> dict[str, Chart | None]:
    def line(label: str, name: str, style: str) -> Series:
        return Series(label, now.history.of(name), style)

    ours = [group.name for group in now.groups if group.ours]
    lag = [
        line(name.removeprefix("streamrec-"), f"behind {name}", f"hue-{n} dash-{n}") for n, name in enumerate(ours, 1)
    ]
    # hue by stage, dash by percentile
    freshness = [
        line("list p99", "freshness recall p99", "hue-1 dash-2"),
        line("list p50", "freshness recall p50", "hue-1"),
        line("state p99", "freshness interests p99", "hue-2 dash-2"),
        line("state p50", "freshness interests p50", "hue-2"),
    ]
    throughput = [
        line("events", "rate applied", "hue-1"),
        line("lists", "rate lists", "hue-2 dash-2"),
        line("duplicates", "rate duplicate", "hue-3 dash-3"),
        line("dead letters", "rate dead-lettered", "hue-4 dash-4"),
    ]
    lists, popular = now.progress.shares(POINTS)
    hits = [Series("lists", lists, "hue-1"), Series("popularity", popular, "hue-2 dash-2")]
    limit, now_s = now.lag_limit_s, now.seen_s
    return {
        "lag": draw(lag, Measure(duration, limit, timed=True), now_s=now_s),
        "freshness": draw(freshness, Measure(duration, limit, logarithmic=True), now_s=now_s),
        "throughput": draw(throughput, Measure(_rate), now_s=now_s),
        "hits": draw(hits, Measure(percent), now_s=now_s, spans_s=LONG_SPANS_S),
        "loss": draw([line("loss", "loss", "hue-1")], Measure(_loss), now_s=now_s),
    }


def _loss(loss: float) -> str:
    return f"{loss:.3g}"


def _at(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}/s" if per_s >= 10 or not per_s else f"{per_s:.1f}/s"


def _printable(letter: DeadLetter) -> str:
    value = letter.record.value
    if value is None:
        return "(no value)"
    text = value[:SHOWN_BYTES].decode(errors="backslashreplace")
    return visible(text) + (" …" if len(value) > SHOWN_BYTES else "")
