"""The state of stored lists, from their marks in Redis, without workers."""

from __future__ import annotations

from typing import NamedTuple

from streamrec.adapters.redis import RedisListMarks
from streamrec.service.list_marks import Census, Facts
from streamrec.settings import Settings


class Lists(NamedTuple):
    """State of the stored lists.

    Attributes
    ----------
    facts
        The serving version and the items that can be listed.
    census
        Number of marked lists.
    """

    facts: Facts
    census: Census

    @property
    def short_share(self) -> float | None:
        """Share of lists with fewer items than requested, `None` without any list."""
        census = self.census
        lists = census.poor + census.behind + census.complete
        return min(1.0, census.all_short / lists) if lists else None

    def waiting_s(self, at_s: float) -> float | None:
        """Return for how long lists have been waiting to be rebuilt, `None` if none is."""
        since_ms = self.facts.waiting_since_ms
        return max(0.0, at_s - since_ms / 1_000) if self.census.waiting and since_ms else None


class ListWatch:
    """Reads the state of lists.

    Parameters
    ----------
    settings
        Settings with the address of Redis; without one nothing is read.
    """

    def __init__(self, settings: Settings) -> None:
        url = settings.require_redis_url() if settings.redis_url is not None else None
        self._marks = RedisListMarks(url, installation=settings.installation) if url else None

    def look(self) -> Lists | None:
        """Return the current state.

        Raises
        ------
        TransientError
            If Redis is unavailable.
        """
        if self._marks is None:
            return None
        facts = self._marks.facts()
        return Lists(facts, self._marks.count(facts))


def why_waiting(lists: Lists) -> str:
    """Return how many lists wait to be rebuilt, and why; empty if none does."""
    facts, census = lists
    kinds = {
        "made by a version that lacked much of the stream": census.poor,
        "made by an outdated version": census.far,
        f"shorter than {facts.top_k} items": census.short,
    }
    return " and ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
