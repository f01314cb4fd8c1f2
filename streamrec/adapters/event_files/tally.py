"""Outcomes of the rows of a file, counted by reason, each with an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from streamrec.errors import StreamrecError

MAX_REASONS = 50
"""Maximum number of distinct reasons: a wrong event type column has as many as rows."""

OTHER = "other"
SHOWN_CHARACTERS = 80


class Example(Struct, frozen=True, kw_only=True):
    """First occurrence of a reason."""

    row: int
    """Row number from 0, without the header."""
    column: str = ""
    value: str = ""
    detail: str = ""

    def __str__(self) -> str:
        """Return a readable summary."""
        where = f"row {self.row}"
        if self.column:
            where += f", column {self.column}: {self.value or 'empty'}"
        return f"{where} ({self.detail})" if self.detail else where


class FileTally(Struct, kw_only=True):
    """Rows by outcome."""

    rows: int = 0
    taken: int = 0
    """Events; a row may contain several."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows of known types that are not events of the contract, by event type."""
    refused: Counter[str] = field(default_factory=Counter)
    """Rows that the contract refuses or of unknown types, by reason or event type."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Dropped optional fields, by name."""
    examples: dict[str, Example] = field(default_factory=dict)
    """First occurrence by reason, event type, or field."""

    @property
    def skipped(self) -> Counter[str]:
        """Skipped rows."""
        return self.left_out + self.refused

    def count(self, counts: Counter[str], reason: str, example: Callable[[], Example]) -> None:
        """Count a row by reason, and keep an example of the first one."""
        known = reason if reason in counts or len(counts) < MAX_REASONS else OTHER
        counts[known] += 1
        if known not in self.examples:
            self.examples[known] = example()

    def lines(self) -> list[str]:
        """Return a line for each reason, most frequent first."""
        words = ((self.left_out, "skipped"), (self.refused, "refused"), (self.dropped, "dropped from events"))
        said = []
        for counts, verb in words:
            said += [f"{count:,} {reason} {verb}: {self.examples[reason]}" for reason, count in counts.most_common()]
        return said

    def check(self, path: Path) -> None:
        """Reject a file of which too little was accepted.

        Raises
        ------
        StreamrecError
            If no event was accepted, or more rows were refused than events accepted.
        """
        refused = self.refused.total()
        if self.taken and refused <= self.taken:
            return
        most = (self.refused or self.left_out).most_common(1)
        reason = "".join(f"; most often {reason}, {self.examples[reason]}" for reason, _ in most)
        raise StreamrecError(
            f"{path}: {self.taken:,} events accepted from {self.rows:,} rows, {refused:,} refused{reason}"
        )
