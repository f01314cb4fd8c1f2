"""Counts of batches and training: filled by use cases, read for log lines and metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of one batch.

    Parameters
    ----------
    outcomes
        Counts by outcome: records that were `applied`, `duplicate`, `dead-lettered` or `refused`, and lists made.
    refused
        Refused records, by topic and reason.
    produced_at_ms
        Production times of the events whose effect is now visible: freshness is measured from there.
    shortened
        Records shortened to fit their topic, by topic.
    dropped
        Dropped optional fields of applied records, by topic and name.
    last_refusal
        Reason and position of the last refused record of the catalogue.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    produced_at_ms: list[int] = field(default_factory=list)
    shortened: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_refusal: str = ""


@dataclass(slots=True)
class TrainingProgress:
    """Progress of a trainer since its process started.

    Parameters
    ----------
    micro_batches, events
        Number of micro-batches and events trained on.
    tested
        Events that the serving version was tested on before they were learned.
    hits, popular_hits
        Hits@10 among these, of the list and of recent popularity.
    drift_alarms
        Number of detected drifts.
    loss
        Moving average of the loss on new events.
    version
        The latest version.
    learned_at_ms
        Production time of the newest event that it has learned.
    checkpoint_failures
        Number of failed checkpoints.
    unsaved
        Why the latest checkpoint could not be written; empty on success.
    """

    micro_batches: int = 0
    events: int = 0
    tested: int = 0
    hits: int = 0
    popular_hits: int = 0
    drift_alarms: int = 0
    loss: float = 0.0
    version: str = ""
    learned_at_ms: int = 0
    checkpoint_failures: int = 0
    unsaved: str = ""
