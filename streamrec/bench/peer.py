"""What all peers do with a click: the very decoding, fold and encoding of streamrec's own worker, and one report."""

from __future__ import annotations

import json
import sys
import time

from streamrec.adapters.redis.interests import decode_state, encode_state
from streamrec.contracts.decode import decode_event
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState

_VERSION = bytes(8)
"""Stands before a stored state; a peer has its own way of knowing what it has written."""


class Peer:
    """One run of a peer; its command line: broker, topic, directory, partitions, events, length of sequences."""

    def __init__(self) -> None:
        self.broker, self.topic, self.directory, partitions, events, sequence_length = sys.argv[1:]
        self.partitions, self.events = int(partitions), int(events)
        self._sequence_length = int(sequence_length)
        self._folded = 0
        self._started_s = 0.0

    def decode(self, partition: int, offset: int, timestamp_ms: int, value: bytes) -> Event:
        """Return the event of a record."""
        return decode_event(Source(EventType.CLICK, partition), offset, timestamp_ms, value, {})

    def fold(self, state: InterestState, event: Event) -> None:
        """Fold an event into a state in memory."""
        if not self._folded:
            self._started_s = time.monotonic()
        self._folded += 1
        state.fold(event, sequence_length=self._sequence_length)

    def fold_stored(self, stored: bytes | None, event: Event) -> bytes:
        """Return a stored state with an event folded in."""
        state = decode_state(stored)
        self.fold(state, event)
        return _VERSION + encode_state(state)

    @property
    def done(self) -> bool:
        """Whether every event was folded."""
        return self._folded >= self.events

    def report(self) -> None:
        """Print how many events were folded in how many seconds, from the first one to now."""
        report = json.dumps({"events": self._folded, "seconds": time.monotonic() - self._started_s})
        print("\n" + report, flush=True)  # noqa: T201  # Faust moves the cursor about in a line that it does not end
