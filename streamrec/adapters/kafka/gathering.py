"""Groups the messages of a poll into slices of partitions; unreadable ones become records with a fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from streamrec.adapters.kafka.client import UNREADABLE, to_kafka, to_record, to_source, translate
from streamrec.adapters.kafka.unreadable import UNREADABLE_CODES, Search, begin
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Fault, Positions, Record, Slice, TopicPartition

# librdkafka's own codes have no other name
_END: Any = KafkaError._PARTITION_EOF  # noqa: SLF001
_CUT_OFF: Any = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_PASSING: frozenset[Any] = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)

EDGES_S = 2.0
"""Timeout for requests about one partition; the rest is left for the next call. Meanwhile a stop is not noticed, and
the next poll must be well within `max.poll.interval.ms`."""

_log = structlog.get_logger(__name__)


class Batching(NamedTuple):
    """How batches are gathered.

    Attributes
    ----------
    max_records
        Maximum number of records in a batch: large enough to amortise its round trips. A batch is one record when the
        stream is quiet.
    patience_ms
        How long the broker may accumulate records, in milliseconds.
    """

    max_records: int = 1_000
    patience_ms: int = 0


class Gathering:
    """Sorts the messages of one poll; the reader applies the result only if nothing failed.

    Parameters
    ----------
    kafka
        Names of topics.
    next_offsets
        Next offset of each assigned partition, `None` if nothing was read yet.
    searches
        Searches for the end of unreadable batches, by partition.
    seeks
        Pending seeks: messages of these partitions are ignored.
    report_lost
        Called with a partition and a position after which offsets are missing; `None` without stored positions.
    edges
        Returns the start and end offsets of a partition's log.
    """

    def __init__(
        self,
        kafka: KafkaAccess,
        next_offsets: Mapping[TopicPartition, int | None],
        searches: Mapping[TopicPartition, Search],
        seeks: Mapping[TopicPartition, int],
        *,
        report_lost: Callable[[TopicPartition, int], object] | None,
        edges: Callable[[TopicPartition], tuple[int, int]],
    ) -> None:
        self._kafka = kafka
        self._next = next_offsets
        self._report_lost = report_lost
        self._edges = edges
        self._failed: set[TopicPartition] = set()
        """Partitions whose latest message is an error, without a seek yet."""
        self.slices: dict[TopicPartition, Slice] = {}
        self.searches = dict(searches)
        self.seeks = dict(seeks)
        """Seeks, replacing what follows in these messages."""
        self.cut_off: Positions = {}
        """Partitions whose logs no longer contain the position, with that position."""
        self.stopped: dict[TopicPartition, str] = {}
        """Partitions that cannot be read at present, and why."""

    def take(self, messages: Iterable[Message]) -> None:
        """Sort messages, in order of arrival.

        Raises
        ------
        TransientError
            If the broker's offsets cannot be determined.
        StreamrecError
            If the client cannot recover.
        """
        unanswered = dict(self.searches)
        sources: dict[tuple[str | None, int | None], TopicPartition] = {}
        for message in messages:
            place = message.topic(), message.partition()
            source = sources.get(place) or sources.setdefault(place, to_source(self._kafka, message))
            error = message.error()
            if error is not None:
                self._take_error(source, error, message.offset())
            elif source in self._next and (source not in self.seeks or source in self._failed):
                self._take_record(source, to_record(message))
        for source, search in unanswered.items():
            if self.searches.get(source) is search and search.is_silent:
                self._narrow(source, search.succeeded())

    def _take_record(self, source: TopicPartition, record: Record) -> None:
        if self.searches or self._failed:
            search = self.searches.get(source)
            if search is not None and record.offset <= search.last:
                return
            if source in self._failed:  # the client continued by itself: everything before this record is unreadable
                self._failed.discard(source)
                del self.seeks[source]
                if search is not None:
                    self._close(source, search, record.offset)
            elif search is not None and not self._narrow(source, search.succeeded()):
                return
        part = self.slices.get(source)
        position = self._next[source] if part is None else part.next
        if record.offset < (position or 0):
            if self._report_lost is not None:
                return  # already processed by the previous owner
            _log.warning(
                "log truncated, continuing at its start",
                topic=source.topic,
                partition=source.partition,
                at=record.offset,
            )
        if part is None:
            part = self._open(source, record.offset)
        part.records.append(record)
        part.next = record.offset + 1

    def _open(self, source: TopicPartition, offset: int) -> Slice:
        start = self._next[source]
        if self._report_lost is not None and start is not None and offset > start:
            self._report_lost(source, start)
        part = self.slices[source] = Slice(source, start or 0, offset)
        return part

    def _take_error(self, source: TopicPartition, error: KafkaError, offset: int | None) -> None:
        if error.fatal():
            raise translate(error)
        if error.code() == _END:
            self._take_end(source, offset or 0)
        elif error.code() == _CUT_OFF:
            if source in self._next:
                self.cut_off[source] = self._position(source)
        elif error.code() in UNREADABLE_CODES and source.partition >= 0:
            if source in self._next and source not in self.seeks:
                self._take_unreadable(source, error.str(), -1 if offset is None else offset)
        elif error.retriable() or error.code() in _PASSING or not source.topic:
            _log.warning("kafka", topic=source.topic, partition=source.partition, error=error.str())
        else:
            self.stopped[source] = error.str()

    def _take_end(self, source: TopicPartition, end: int) -> None:
        """Move to the end of a log without further records, past transaction markers and aborted records."""
        if source not in self._next or source in self.seeks or source in self.searches:
            return
        if end > self._position(source):
            part = self.slices.setdefault(source, Slice(source, self._next[source] or 0, end))
            part.next = end

    def _position(self, source: TopicPartition) -> int:
        """Return the next offset to read, including everything taken here."""
        part = self.slices.get(source)
        return (self._next[source] or 0) if part is None else part.next

    def _take_unreadable(self, source: TopicPartition, because: str, named: int) -> None:
        search = self.searches.get(source)
        if search is None:
            first = max(named, self._position(source))
            named = first if named < 0 else named
            search = begin(first=first, batch=named, end=self._edges(source)[1], because=because)
        else:
            search = search.failed(named)
        self._narrow(source, search)
        self._failed.add(source)
        self.seeks[source] = search.probe

    def _narrow(self, source: TopicPartition, search: Search) -> bool:
        """Update the search for the end of an unreadable batch; return whether it is complete."""
        self.searches[source] = search
        if search.is_over:
            self._close(source, search, search.beyond)
        else:
            self.seeks[source] = search.probe
        return search.is_over

    def _close(self, source: TopicPartition, search: Search, beyond: int) -> None:
        """Replace everything unreadable up to an offset with a single record."""
        del self.searches[source]
        part = self.slices.get(source) or self._open(source, search.first)
        last = beyond - 1
        detail = f"offsets {search.first} to {last} cannot be read: {search.because}"
        now_ms = time.time_ns() // 1_000_000  # their production time is unknown
        part.records.append(Record(search.first, now_ms, None, None, {}, Fault(UNREADABLE, detail)))
        part.next = beyond
        _log.error("unreadable", topic=source.topic, partition=source.partition, because=detail)


def edges(kafka: KafkaAccess, consumer: Consumer, source: TopicPartition) -> tuple[int, int]:
    """Return the start and end offsets of a partition.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    try:
        low, high = consumer.get_watermark_offsets(to_kafka(kafka, source), timeout=EDGES_S)
    except KafkaException as error:
        raise translate(error.args[0]) from error  # asking the client for the reason would lose a record
    return low, high


def send_to(kafka: KafkaAccess, consumer: Consumer, seeks: dict[TopicPartition, int]) -> None:
    """Seek to these offsets, and remove those that succeeded; a partition just assigned cannot be sought yet."""
    for source, offset in list(seeks.items()):
        try:
            consumer.seek(to_kafka(kafka, source, offset))
        except KafkaException as error:
            _log.warning("no seek yet", topic=source.topic, partition=source.partition, because=str(error))
        else:
            del seeks[source]


def is_end(message: Message) -> bool:
    """Return whether a message is an end-of-partition event."""
    error = message.error()
    return error is not None and error.code() == _END
