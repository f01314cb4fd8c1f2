"""The status cards of the dashboard: figures with their limits. Problems are determined only by `readiness.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamrec.monitor.charts import round_words
from streamrec.monitor.observation import Observation
from streamrec.monitor.readiness import DEAD_LETTER_LIMIT, MODEL_AGE_LIMIT_S, Cause
from streamrec.monitor.words import duration, percent

LAG = frozenset(
    (
        *("not-read", "open-transaction", "missing-topic", "no-members", "behind", "stalled"),
        *("leaderless", "unassigned", "lost", "beyond-end"),
    )
)
FRESHNESS = frozenset({"late-lists", "lists-waiting"})
MODEL = frozenset({"old-model", "unsaved"})
DEAD_LETTERS = frozenset({"dead-letters", "paused"})
"""Causes and warnings that affect a card; those of no card, such as servers, only affect the first one."""

OK, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "unknown"
WORDS = {OK: "OK", WARNING: "Warning", PROBLEM: "Problem", UNKNOWN: "No data"}


class Figure(NamedTuple):
    """A figure of a card with its name."""

    name: str
    text: str


class Card(NamedTuple):
    """A card.

    Attributes
    ----------
    name
        Title.
    state
        One of `WORDS`.
    figures
        One or several named figures; the limit applies to the last one.
    used
        Share of the limit, at most 1; `None` without a figure.
    limit
        The limit as text.
    note
        Explanation of the figure.
    """

    name: str
    state: str
    figures: Sequence[Figure]
    used: float | None
    limit: str
    note: str

    @property
    def word(self) -> str:
        """The state as text."""
        return WORDS[self.state]


def cards(now: Observation, causes: Sequence[Cause], warnings: Sequence[Cause]) -> list[Card]:
    """Return the cards after the first one, which shows the verdict.

    Parameters
    ----------
    now
        What is known.
    causes, warnings
        Results of the health rule.
    """

    def state(kinds: frozenset[str], figure: float | None) -> str:
        if any(cause.name in kinds for cause in causes):
            return PROBLEM
        if any(warning.name in kinds for warning in warnings):
            return WARNING
        return UNKNOWN if figure is None else OK

    waiting = sum(group.lag for group in now.groups if group.ours)
    rebuilt = now.lists.census.waiting if now.lists else 0
    p50_s, p99_s = (now.history.newest(f"freshness recall p{percent}") for percent in (50, 99))
    age_s, share, limit = now.model_age_s, now.dead_letter_share, round_words(duration(now.lag_limit_s))
    letters = f"{'' if now.refused_are_all else 'at least '}{now.refused_records:,} in total"
    return [
        Card(
            "Lag",
            state(LAG, now.behind_s),
            [Figure("", duration(now.behind_s))],
            _used(now.behind_s, now.lag_limit_s),
            limit,
            f"{waiting:,} records waiting",
        ),
        Card(
            "List freshness",
            state(FRESHNESS, p99_s),
            [Figure("p50", duration(p50_s)), Figure("p99", duration(p99_s))],
            _used(p99_s, now.lag_limit_s),
            limit,
            f"{rebuilt:,} lists wait to be rebuilt" if rebuilt else "from event to published list",
        ),
        Card(
            "Model age",
            state(MODEL, age_s),
            [Figure("", duration(age_s))],
            _used(age_s, MODEL_AGE_LIMIT_S),
            duration(MODEL_AGE_LIMIT_S),
            "behind the stream of events",
        ),
        Card(
            "Dead letters",
            state(DEAD_LETTERS, None if now.lag is None else share or 0.0),
            [Figure("", round_words(percent(share or 0.0)))],
            _used(share or 0.0, DEAD_LETTER_LIMIT),
            f"{100 * DEAD_LETTER_LIMIT:g} %",
            f"of latest events; {letters}",
        ),
    ]


def verdict_state(causes: Sequence[Cause], warnings: Sequence[Cause]) -> str:
    """Return the state of the whole pipeline."""
    return PROBLEM if causes else WARNING if warnings else OK


def _used(figure: float | None, limit: float) -> float | None:
    return None if figure is None else min(1.0, figure / limit)
