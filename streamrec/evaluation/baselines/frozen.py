"""The same model with a stopped trainer."""

from __future__ import annotations

from collections.abc import Sequence

from streamrec.contracts.derived import UserInterest
from streamrec.model.ranking.ranker import ModelRanker


class Frozen:
    """Ranks by the version serving when scoring begins.

    Like a recall worker whose trainer has stopped: sequences and the popularity of known items are still updated.

    Parameters
    ----------
    hide_seen
        As for the ranker.
    """

    name = "frozen"

    def __init__(self, *, hide_seen: bool) -> None:
        self._ranker = ModelRanker(hide_seen=hide_seen)

    def apply_update(self, record: bytes) -> None:
        """Apply a record of `model-updates`, before scoring begins."""
        self._ranker.apply_update(record)

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[list[str]]:
        """Return each user's list."""
        return [items.ids for items in self._ranker.rank(interests, k=k)]

    def count(self, interest: UserInterest) -> None:
        """Count an event."""
        if self._ranker.model_version:
            self._ranker.count(interest)
