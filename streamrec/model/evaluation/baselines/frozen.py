"""The same model, whose trainer stopped."""

from __future__ import annotations

from collections.abc import Sequence

from streamrec.contracts.derived import UserInterest
from streamrec.model.ranker import ModelRanker


class Frozen:
    """Ranks by the version that serves when scoring begins.

    It is a recall worker whose trainer stopped: sequences and the popularity of known items go on.

    Parameters
    ----------
    hide_seen
        As of the ranker.
    """

    name = "frozen"

    def __init__(self, *, hide_seen: bool) -> None:
        self._ranker = ModelRanker(hide_seen=hide_seen)

    def apply_update(self, record: bytes) -> None:
        """Take in a record of `model-updates`, before scoring begins."""
        self._ranker.apply_update(record)

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[list[str]]:
        """Return each user's list."""
        return [[item.item_id for item in items] for items in self._ranker.rank(interests, k=k)]

    def count(self, interest: UserInterest) -> None:
        """Count an event."""
        if self._ranker.model_version:
            self._ranker.count(interest)
