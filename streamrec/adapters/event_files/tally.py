"""What became of the rows of a file, counted by reason, each with an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from streamrec.errors import StreamrecError

MAX_REASONS = 50
"""More different reasons are not told apart: a column that is no event type has as many as rows."""

OTHER = "other"
SHOWN_CHARACTERS = 80


class Example(Struct, frozen=True, kw_only=True):
    """Where a reason was seen first."""

    row: int
    """From 0, the header not counted."""
    column: str = ""
    value: str = ""
    detail: str = ""

    def __str__(self) -> str:
        """Return a summary for people."""
        where = f"row {self.row}"
        if self.column:
            where += f", column {self.column}: {self.value or 'empty'}"
        return f"{where} ({self.detail})" if self.detail else where


class FileTally(Struct, kw_only=True):
    """Rows by what became of them."""

    rows: int = 0
    taken: int = 0
    """Events; a row may hold several."""
    ratings: int = 0
    """Of these, ratings: each counts as a click."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that are understood and no event of ours, by event type."""
    refused: Counter[str] = field(default_factory=Counter)
    """Rows that the contract refuses or nobody understands, by reason or event type."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Optional fields that the contract refuses, by name; their events are taken without them."""
    examples: dict[str, Example] = field(default_factory=dict)
    """By reason, event type, or name of the field."""

    @property
    def skipped(self) -> Counter[str]:
        """Rows that became no event."""
        return self.left_out + self.refused

    def count(self, counts: Counter[str], reason: str, example: Callable[[], Example]) -> None:
        """Count a row by reason, and keep its example if it is the first."""
        known = reason if reason in counts or len(counts) < MAX_REASONS else OTHER
        counts[known] += 1
        if known not in self.examples:
            self.examples[known] = example()

    def lines(self) -> list[str]:
        """Return what people should know, a line for each reason, the most frequent first."""
        words = ((self.left_out, "left out"), (self.refused, "refused"), (self.dropped, "dropped from events"))
        said = [f"{self.ratings:,} ratings count as clicks, whatever their value"] if self.ratings else []
        for counts, verb in words:
            said += [f"{count:,} {reason} {verb}: {self.examples[reason]}" for reason, count in counts.most_common()]
        return said

    def check(self, path: Path) -> None:
        """Refuse a file that was hardly understood.

        Raises
        ------
        StreamrecError
            If no event was taken, or more rows were refused than events taken.
        """
        refused = self.refused.total()
        if self.taken and refused <= self.taken:
            return
        most = (self.refused or self.left_out).most_common(1)
        reason = "".join(f"; most often {reason}, {self.examples[reason]}" for reason, _ in most)
        raise StreamrecError(
            f"{path}: {self.taken:,} events taken from {self.rows:,} rows, {refused:,} refused{reason}"
        )
