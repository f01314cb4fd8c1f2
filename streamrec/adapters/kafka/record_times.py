"""Looks up the first unread records at given positions, a bounded number at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException

from streamrec.adapters.kafka.client import client_config, to_kafka, to_source, translate_exception
from streamrec.adapters.kafka.offsets import Offsets, Partitions
from streamrec.kafka_access import KafkaAccess

PATIENCE_S = 1.0
"""Timeout after the last record; the remaining positions are left for the next look-up."""

UNKNOWN = -1

_TIMEOUT_S = 5.0
_FETCH_BYTES = 65_536
_OFFSET_BITS = 44
"""Packs partition index and offset into one integer: half a million partitions of seventeen trillion records."""

_EOF: int = KafkaError._PARTITION_EOF  # noqa: SLF001  # librdkafka's own codes have no other name

Place = tuple[int, int]
"""Index of a partition and an offset in it."""


class _Found(NamedTuple):
    """First record at or after a position."""

    offset: int
    """Offset of the record, or the end if there are only transaction markers and aborted records."""
    since_ms: int
    """Production time of the record, `UNKNOWN` at the end."""


@dataclass(slots=True)
class _Known:
    """Known times of a group's positions, in the order of the cluster's partitions."""

    position: Offsets
    since_ms: Offsets
    looked_up: Offsets
    """Number of the last look-up of each."""
    gap_start: Offsets
    gap_end: Offsets
    """Gaps between these offsets: transactions and compaction leave gaps in the log."""

    def beyond_gap(self, index: Offsets, position: Offsets) -> Offsets:
        """Return positions, with those in a gap moved to its end."""
        is_inside = (self.gap_start[index] <= position) & (position < self.gap_end[index])
        return np.where(is_inside, self.gap_end[index], position)


class RecordTimes:
    """Looks up the first unread record at the positions of groups, and its production time.

    Offsets are not counts: transaction markers, aborted records and compacted records have offsets but are never read.

    A position that has not moved is not looked up again. If more have moved than can be read at a time, those that have
    waited longest come first, and the others keep the time of the last record read there, which is an upper bound on
    their lag.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    at_most
        Maximum number of records per look-up.
    committed
        Whether to count only committed records, as the workers do.
    """

    def __init__(self, kafka: KafkaAccess, *, at_most: int, committed: bool = True) -> None:
        self._kafka = kafka
        self._at_most = at_most
        self._consumer = Consumer(
            client_config(kafka)
            | {
                "group.id": kafka.on_broker("streamrec-observer"),  # never joined: partitions are assigned manually
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 100,
                "max.partition.fetch.bytes": _FETCH_BYTES,
                "queued.min.messages": 1,
                "fetch.queue.backoff.ms": 10,
            }
        )
        self._partitions = Partitions({})
        self._known: dict[str, _Known] = {}
        self._look_ups = 0

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def look_up(
        self, partitions: Partitions, groups: Mapping[str, tuple[Offsets, Offsets, Offsets]]
    ) -> dict[str, tuple[Offsets, Offsets]]:
        """Return the offset and production time of the first record at or after each position, for each group.

        Without unread records the offset is the end; if the log was not read yet, it is the position itself, and the
        time is `UNKNOWN`.

        Parameters
        ----------
        partitions
            The cluster's partitions.
        groups
            By group: partition indices, positions and ends; positions at the end are not looked up.

        Raises
        ------
        TransientError
            If the consumer cannot be used.
        """
        if partitions is not self._partitions:
            self._partitions, self._known = partitions, {}
            self._learn_leaders()
        self._known = {name: self._known.get(name) or _nothing(len(partitions)) for name in groups}
        self._look_ups += 1
        wanted = self._wanted(groups)
        read = self._read({place for _, _, place in wanted})
        for name, index, (_, offset) in wanted:
            known = self._known[name]
            if found := read.get((index, offset)):
                if known.gap_end[index] != offset:  # otherwise the gap extends further than known
                    known.gap_start[index] = offset
                known.gap_end[index] = found.offset
                known.since_ms[index] = found.since_ms
                # look up whatever follows the end
                known.position[index] = UNKNOWN if found.since_ms == UNKNOWN else found.offset
            known.looked_up[index] = self._look_ups
        return {
            name: (self._known[name].beyond_gap(index, position), self._known[name].since_ms[index])
            for name, (index, position, _) in groups.items()
        }

    def _learn_leaders(self) -> None:
        """Request the metadata of unknown topics: otherwise the consumer would do so a second later."""
        try:
            self._consumer.list_topics(timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise translate_exception(error, self._consumer) from error

    def _wanted(self, groups: Mapping[str, tuple[Offsets, Offsets, Offsets]]) -> list[tuple[str, int, Place]]:
        """Drop outdated entries, and return the positions to read, longest waiting first."""
        names, places, waited = [], [], []
        for name, (index, committed, end) in groups.items():
            known = self._known[name]
            position = known.beyond_gap(index, committed)
            lagging = position < end
            gone = ~lagging | (position < known.position[index])  # processed, or moved back
            known.since_ms[index[gone]] = UNKNOWN
            known.position[index[gone]] = UNKNOWN
            moved = lagging & (position != known.position[index])
            names += [name] * int(moved.sum())
            places.append(index[moved] << _OFFSET_BITS | position[moved])
            waited.append(known.looked_up[index[moved]])
        if not names:
            return []
        # groups at the same position share one record
        distinct, which = np.unique(np.concatenate(places), return_inverse=True)
        looked_up = np.full(len(distinct), self._look_ups)
        np.minimum.at(looked_up, which, np.concatenate(waited))
        chosen = np.zeros(len(distinct), bool)
        chosen[np.argsort(looked_up, kind="stable")[: self._at_most]] = True
        at = np.flatnonzero(chosen[which])
        index, offset = distinct[which[at]] >> _OFFSET_BITS, distinct[which[at]] & (1 << _OFFSET_BITS) - 1
        return [
            (names[entry], place[0], place)
            for entry, place in zip(at.tolist(), zip(index.tolist(), offset.tolist(), strict=True), strict=True)
        ]

    def _read(self, places: Iterable[Place]) -> dict[Place, _Found]:
        """Read the record at or after each position, one position per partition at a time."""
        found: dict[Place, _Found] = {}
        waiting = sorted(places)
        while waiting:
            together = dict(waiting)  # of several positions in one partition the last one
            came = self._read_together(together)
            found |= came
            waiting = [place for place in waiting if place not in together.items()]
            if len(came) < len(together):
                break  # the broker is slow: leave the rest for the next look-up
        return found

    def _read_together(self, places: dict[int, int]) -> dict[Place, _Found]:
        index_of = {self._partitions.sources[index]: index for index in places}
        found: dict[Place, _Found] = {}
        try:
            self._consumer.assign([to_kafka(self._kafka, source, places[index]) for source, index in index_of.items()])
            end_s = time.monotonic() + PATIENCE_S
            while len(found) < len(places) and (left_s := end_s - time.monotonic()) > 0:
                message = self._consumer.poll(left_s)
                if message is None:
                    continue
                error = message.error()
                if error is not None and error.code() != _EOF:
                    continue  # librdkafka retries by itself; missing records wait for the next look-up
                index = index_of[to_source(self._kafka, message)]
                if (index, places[index]) in found:
                    continue
                since_ms = message.timestamp()[1] if error is None else UNKNOWN
                found[index, places[index]] = _Found(int(message.offset() or 0), since_ms)
                end_s = time.monotonic() + PATIENCE_S
            self._consumer.unassign()
        except KafkaException as error:
            raise translate_exception(error, self._consumer) from error
        return found


def _nothing(size: int) -> _Known:
    def every(value: int) -> Offsets:
        return np.full(size, value, np.int64)

    return _Known(every(UNKNOWN), every(UNKNOWN), every(0), every(UNKNOWN), every(UNKNOWN))
