"""The monitor's current state and its history; read by the dashboard, metrics and probes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamrec.adapters.kafka.dead_letters import DeadLetter
from streamrec.adapters.kafka.group_lag import HeldBack, Lag
from streamrec.adapters.postgres import RetentionReport
from streamrec.contracts.model_version import ModelVersions
from streamrec.monitor.groups import GroupState
from streamrec.monitor.lists import Lists
from streamrec.monitor.readiness import Cause, causes, warnings
from streamrec.monitor.scrape import Scraped
from streamrec.monitor.series import History, Progress, Totals

STAGES = {
    "interests": "in the interest state",
    "recall": "in the list",
    "retention": "in retention",
    "model": "learned",
}
"""Stages at which freshness is measured, with the state of an event there."""


NO_VERSIONS = ModelVersions(versions=[], refused=0, rolled_back=0, drifts=0)
"""Before the trainer has published any."""


@dataclass(slots=True)
class Observation:
    """Current state.

    Parameters
    ----------
    lag_limit_s
        Maximum age of the oldest waiting record.
    at_s
        Time of the poll, Unix seconds.
    seen_s
        The same on a monotonic clock, for rates and charts.
    looks
        Number of polls.
    read_s
        Monotonic time when the groups were last read; `None` if never.
    """

    lag_limit_s: float
    at_s: float = 0.0
    seen_s: float = 0.0
    looks: int = 0
    read_s: float | None = None
    lag: Lag | None = None
    groups: list[GroupState] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, Sequence[str]] = field(default_factory=dict)
    """Why available servers lose data or refuse writes."""
    server_warnings: dict[str, Sequence[str]] = field(default_factory=dict)
    """Warnings about servers."""
    servers: list[str] = field(default_factory=list)
    workers: list[Scraped] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    history: History = field(default_factory=History)
    progress: Progress = field(default_factory=Progress)
    fresh_s: dict[tuple[str, int], float | None] = field(default_factory=dict)
    """Freshness over the window by stage and percentile, `None` where nothing came."""
    letters: list[DeadLetter] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    """Number of distinct refused records by topic, at least."""
    refused_are_all: bool = True
    """Whether all dead letters and distinct records were counted."""
    retention: dict[str, RetentionReport] = field(default_factory=dict)
    """By arm; the empty name is all users."""
    versions: ModelVersions = NO_VERSIONS
    lists: Lists | None = None
    """State of the stored lists when last read."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Restarts of crashed processes by `streamrec up`."""
    unreadable: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Records refused by the monitor, by topic and reason."""

    @property
    def read_s_ago(self) -> float | None:
        """Time since the groups were last read, also while a poll hangs."""
        return None if self.read_s is None else time.monotonic() - self.read_s

    @property
    def refused_records(self) -> int:
        """Number of distinct refused records, at least."""
        return sum(self.refused.values())

    @property
    def held_back(self) -> list[HeldBack]:
        """Records withheld by open transactions."""
        return self.lag.held_back() if self.lag else []

    @property
    def behind_s(self) -> float | None:
        """Age of the oldest record that waits for one of our workers, `None` if it is not known."""
        known = [group.behind_s for group in self.groups if group.ours and group.behind_s is not None]
        return max(known) if known else None

    @property
    def model_age_s(self) -> float | None:
        """Time from the newest event that the serving model has learned to the newest event; `None` without either."""
        newest, learned = (self._newest_effect_s(stage) for stage in ("interests", "model"))
        return None if newest is None or learned is None else max(0.0, newest - learned)

    @property
    def dead_letter_share(self) -> float | None:
        """Share of the window's events that were dead-lettered, `None` if there were none."""
        events, refused = (
            self.totals.grown("streamrec_outcomes_total", worker="interests", **outcome)
            for outcome in ({}, {"outcome": "dead-lettered"})
        )
        return refused / events if events else None

    @property
    def warnings(self) -> list[Cause]:
        """What needs attention although the pipeline may be healthy."""
        return warnings(self)

    @property
    def causes(self) -> list[Cause]:
        """Why the pipeline is not healthy; empty if it is."""
        return causes(self)

    @property
    def verdict(self) -> dict[str, Any]:
        """Health, its causes and warnings, as reported by probes and commands."""
        found = self.causes
        return {
            "ready": not found,
            "causes": [cause.text for cause in found],
            "details": [cause._asdict() for cause in found],
            "warnings": [warning._asdict() for warning in self.warnings],
        }

    def record(self) -> None:
        """Append the current values to the series."""
        add = self.history.record
        for group in self.groups:
            if group.ours:
                add(f"lag {group.name}", self.seen_s, group.lag)
                add(f"behind {group.name}", self.seen_s, group.behind_s)
        for stage in STAGES:
            for percent in (50, 99):
                age_s = self.totals.quantile(percent / 100, "streamrec_freshness_seconds", stage=stage)
                self.fresh_s[stage, percent] = age_s
                add(f"freshness {stage} p{percent}", self.seen_s, age_s)
        for outcome in ("applied", "duplicate", "dead-lettered"):
            rate = self.totals.rate("streamrec_outcomes_total", worker="interests", outcome=outcome)
            add(f"rate {outcome}", self.seen_s, rate)
        add("rate lists", self.seen_s, self.totals.rate("streamrec_outcomes_total", worker="recall", outcome="lists"))
        tested, *hits = (
            self.totals.total(f"streamrec_prequential_{name}_total") for name in ("tested", "hits", "popular_hits")
        )
        if tested:
            self.progress.record(self.seen_s, tested, *hits)
        for worker in self.workers:
            if worker.endpoint.worker == "trainer":
                add("loss", self.seen_s, worker.gauge("streamrec_training_loss") or None)

    def _newest_effect_s(self, stage: str) -> float | None:
        key = ("streamrec_newest_effect_timestamp_seconds", (("stage", stage),))
        return max((worker.gauges[key] for worker in self.workers if key in worker.gauges), default=None)
