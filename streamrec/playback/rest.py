"""Waits for a pipeline that is sent nothing until it is done: everything handled, learned, and in the lists."""

from __future__ import annotations

import time
from collections.abc import Callable

from streamrec.adapters.kafka.lag import read_lag
from streamrec.adapters.redis import RedisListMarks
from streamrec.errors import StreamrecError, TransientError
from streamrec.settings import Settings

STALLED_S = 180.0
"""Workers that do nothing for so long do not run; on a slow machine a first step takes a minute."""

TELLING_S = 15.0
"""Whoever waits longer is told what for, once for the lists and once for the lag."""

_POLL_S = 0.25

Say = Callable[[str], None]
Left = Callable[[], dict[str, int]]
"""What is left, by name; nothing that is 0."""


class Rest:
    """Waits for workers, for as long as they get on.

    Parameters
    ----------
    settings
        Where the servers are.
    say
        Told what is waited for, where it takes long.
    """

    def __init__(self, settings: Settings, say: Say) -> None:
        self._kafka = settings.require_kafka()
        self._marks = RedisListMarks(settings.require_redis_url(), installation=settings.installation)
        self._say = say
        self._told: set[Left] = set()

    def until_lists_are_new(self) -> None:
        """Wait until the model has learned all events, and every list was made by a version that has.

        Raises
        ------
        StreamrecError
            If the workers stop getting on.
        """
        self._wait(self._unfinished)

    def until_no_lag(self) -> None:
        """Wait until all workers have handled everything.

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
        # while the stream is not seen to rest, and for a new list, the facts are of an earlier instant
        left = {"events to learn": facts.lacking, "lists to make again": census.waiting + census.behind}
        return {name: count for name, count in left.items() if count} or ({} if facts.quiet else {"a pause": 1})

    def _wait(self, left: Left) -> None:
        begun_s = moved_s = time.monotonic()
        before: dict[str, int] = {}
        while True:
            try:
                now = left()
            except TransientError:  # a busy server is asked again
                now = before or {"answers of a server": 1}
            if not now:
                return
            now_s = time.monotonic()
            if now != before:
                before, moved_s = now, now_s
            waits_for = ", ".join(f"{count:,} {name}" for name, count in now.items())
            if now_s - moved_s > STALLED_S:
                raise StreamrecError(f"the workers have done nothing for {STALLED_S:.0f} s; still left: {waits_for}")
            if left not in self._told and now_s - begun_s > TELLING_S:
                self._say(f"still left: {waits_for}")
                self._told.add(left)
            time.sleep(_POLL_S)
