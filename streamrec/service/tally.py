"""What became of batches and of training: filled by who does the work, read by who writes log lines and metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What one batch came to.

    Parameters
    ----------
    outcomes
        How often what happened: records that ended as `applied`, `duplicate`, `dead-lettered` or `refused`, lists that
        were made.
    refused
        Records that were refused, by topic and reason.
    produced_at_ms
        When the events were produced whose effect can be seen from now on: freshness counts from there.
    shortened
        Records that were made shorter to fit their topic, by topic.
    dropped
        Optional fields that were left out of records that were applied, by topic and name.
    last_refusal
        Why the last one of the catalogue's records was refused, and which one that was.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    produced_at_ms: list[int] = field(default_factory=list)
    shortened: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_refusal: str = ""


@dataclass(slots=True)
class TrainingProgress:
    """How a trainer gets on, counted since its process started.

    Parameters
    ----------
    micro_batches, events
        What it was trained on.
    tested
        Events that what serves was tested on before anything had learned from them.
    hits, popular_hits
        Of these, how many had their item among the first ten of the list, and of what was most popular of late.
    drift_alarms
        How often the losses said that the stream has changed.
    loss
        Moving average of the loss on new events.
    version
        The newest version that was made.
    learned_at_ms
        When the newest event was produced that it has learned.
    checkpoint_failures
        Checkpoints that could not be written.
    unsaved
        Why the newest checkpoint could not be written, empty while all is well.
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
