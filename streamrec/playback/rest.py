"""Waits until an idle pipeline is done: everything processed, learned, and in the lists."""

from __future__ import annotations

import time
from collections.abc import Callable

from streamrec.adapters.kafka.lag import read_lag
from streamrec.adapters.redis import RedisListMarks
from streamrec.errors import StreamrecError, TransientError
from streamrec.settings import Settings

STALLED_S = 180.0
"""Workers without progress for this long are not running; on a slow machine a first step takes a minute."""

TELLING_S = 15.0
"""Waits longer than this are reported, once for the lists and once for the lag."""

_POLL_S = 0.25

Say = Callable[[str], None]
Left = Callable[[], dict[str, int]]
"""Remaining work by name, without zeros."""


class Rest:
    """Waits for workers while they make progress.

    Parameters
    ----------
    settings
        Settings with the servers' addresses.
    say
        Called with the reason for long waits.
    """

    def __init__(self, settings: Settings, say: Say) -> None:
        self._kafka = settings.require_kafka()
        self._marks = RedisListMarks(settings.require_redis_url(), installation=settings.installation)
        self._say = say
        self._told: set[Left] = set()

    def until_lists_are_new(self) -> None:
        """Wait until the model has learned all events, and every list was made by such a version.

        Raises
        ------
        StreamrecError
            If the workers stop getting on.
        """
        self._wait(self._unfinished)

    def until_no_lag(self) -> None:
        """Wait until all workers have processed everything.

        Raises
        ------
        StreamrecError
            If the workers stop getting on.
        """
        self._wait(self._lag)

    def _lag(self) -> dict[str, int]:
        lag: dict[str, int] = {}
        for part in read_lag(self._kafka):
            if part.lag:
                name = f"records for {part.group.removeprefix('streamrec-')}"
                lag[name] = lag.get(name, 0) + part.lag
        return lag

    def _unfinished(self) -> dict[str, int]:
        facts = self._marks.facts()
        census = self._marks.count(facts)
        if not facts.version:
            return {"the first model": 1}
        # until the stream counts as quiet, and for a new list, the facts are outdated
        left = {"events to learn": facts.lacking, "lists to rebuild": census.waiting + census.behind}
        return {name: count for name, count in left.items() if count} or ({} if facts.quiet else {"a pause": 1})

    def _wait(self, left: Left) -> None:
        begun_s = moved_s = time.monotonic()
        before: dict[str, int] = {}
        while True:
            try:
                now = left()
            except TransientError:  # retry a busy server
                now = before or {"answers of a server": 1}
            if not now:
                return
            now_s = time.monotonic()
            if now != before:
                before, moved_s = now, now_s
            waits_for = ", ".join(f"{count:,} {name}" for name, count in now.items())
            if now_s - moved_s > STALLED_S:
                raise StreamrecError(f"the workers made no progress for {STALLED_S:.0f} s; still left: {waits_for}")
            if left not in self._told and now_s - begun_s > TELLING_S:
                self._say(f"still left: {waits_for}")
                self._told.add(left)
            time.sleep(_POLL_S)
