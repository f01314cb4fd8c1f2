"""What making lists again needs of the outside, beside the other ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from streamrec.service.list_marks import Census, Facts, Made, Mark


class ListOrigin(msgspec.Struct, frozen=True):
    """What a stored list was made from.

    Attributes
    ----------
    state_version, produced_at_ms
        As in :class:`~streamrec.contracts.derived.TopKList`.
    """

    state_version: int
    produced_at_ms: int


class ListMarks(Protocol):
    """Remembers how lists were made, and which of them are to be made again."""

    def facts(self) -> Facts:
        """Return what was kept last."""

    def keep(self, facts: Facts) -> None:
        """Keep facts."""

    def count(self, facts: Facts) -> Census:
        """Count the marks."""

    def trim(self) -> None:
        """Drop the oldest of too many marks."""

    def newest(self, made: Made, count: int, *, below: float = ...) -> list[str]:
        """Return the users of so many lists that were made like this, highest score first, all below a limit."""

    def short(self, count: int, *, below: int) -> list[str]:
        """Return the users of so many short lists that were made when fewer items could be listed."""

    def mark(self, marks: Sequence[Mark]) -> None:
        """Replace the marks of lists."""

    def shorten(self, user_ids: Sequence[str]) -> None:
        """Mark lists that have lost items as short, whatever else they are marked as."""

    def drop(self, user_ids: Sequence[str]) -> None:
        """Forget lists that are no more."""

    def claim(self) -> bool:
        """Ask to be the only one who makes lists again, for some seconds."""
