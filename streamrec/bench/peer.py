"""Processing of a click shared by all compared systems: the decoding, fold and encoding of streamrec's worker."""

from __future__ import annotations

import json
import sys
import time

from streamrec.adapters.redis.interests import decode_state, encode_state
from streamrec.contracts.decode import decode_event
from streamrec.contracts.derived import EventPosition
from streamrec.contracts.topics import CLICKS
from streamrec.domain.event import Event
from streamrec.domain.interest import FoldRules, InterestState
from streamrec.service.interest_record import Changed, interest_record

_VERSION = bytes(8)
"""Version prefix of a stored state, unused by the other systems."""

_ROOM_BYTES = 1 << 20
"""Record size limit of the topic that states are published to, the default of Kafka."""


class Peer:
    """One run of a system; command line: broker, topic, directory, partitions, events, sequence length."""

    def __init__(self) -> None:
        self.broker, self.topic, self.directory, partitions, events, sequence_length = sys.argv[1:]
        self.partitions, self.events = int(partitions), int(events)
        self._sequence_length = int(sequence_length)
        self._folded = 0
        self._started_s = 0.0

    def decode(self, partition: int, offset: int, timestamp_ms: int, value: bytes) -> Event:
        """Decode the event in a record."""
        return decode_event((CLICKS, partition), offset, timestamp_ms, value, {})

    def fold(self, state: InterestState, event: Event) -> None:
        """Fold an event into a state in memory."""
        if not self._folded:
            self._started_s = time.monotonic()
        self._folded += 1
        state.fold(event, FoldRules(self._sequence_length))

    def fold_stored(self, stored: bytes | None, event: Event) -> bytes:
        """Fold an event into an encoded state."""
        state = decode_state(stored)
        self.fold(state, event)
        return _VERSION + encode_state(state)

    def fold_and_describe(self, stored: bytes | None, event: Event) -> tuple[bytes, bytes]:
        """Fold an event into an encoded state; return the state and its `user-interests` record."""
        state = decode_state(stored)
        self.fold(state, event)
        changed = Changed([EventPosition(event.source.event_type, event.source.partition, event.offset)])
        record, _ = interest_record(event.user_id, state, changed, _ROOM_BYTES)
        return _VERSION + encode_state(state), record.value or b""

    @property
    def done(self) -> bool:
        """Whether every event was folded."""
        return self._folded >= self.events

    def report(self) -> None:
        """Print the number of folded events and the seconds since the first one."""
        report = json.dumps({"events": self._folded, "seconds": time.monotonic() - self._started_s})
        print("\n" + report, flush=True)  # noqa: T201  # Faust moves the cursor in an unterminated line
