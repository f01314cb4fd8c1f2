"""Counts refused records, each once, even if it was replayed and refused again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from heapq import nlargest

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException

from streamrec.adapters.kafka.client import client_config, to_kafka, to_record, to_source, translate_exception
from streamrec.adapters.kafka.dead_letters import DeadLetter, beginning
from streamrec.contracts.topics import DEAD_LETTER_SUFFIX
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Positions, TopicPartition

MAX_COUNTED = 100_000
"""Maximum number of distinct records that are counted, about 20 MB of memory; beyond it the count is a lower bound."""

LETTERS_A_LOOK = 5_000
LOOK_S = 1.0
"""Maximum number of dead letters per poll; the rest is read by later polls."""

_PREFETCH_KILOBYTES = 1_024
_AT_A_TIME = 500
_OFFSET_BITS = 44
_END: int = KafkaError._PARTITION_EOF  # noqa: SLF001  # librdkafka's own codes have no other name


class DeadLetterCensus:
    """Consumes dead letters and counts distinct records; not thread-safe.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    newest
        Number of the latest dead letters to keep per topic.
    """

    def __init__(self, kafka: KafkaAccess, *, newest: int) -> None:
        self._kafka = kafka
        self._newest_count = newest
        self._consumer: Consumer | None = None
        self._sources: list[TopicPartition] = []
        self._next: Positions = {}
        self._starts: Positions = {}
        self._places: dict[int, int] = {}
        """Position (partition number, offset) of the latest dead letter of each refused record."""
        self._newest: dict[str, deque[DeadLetter]] = {}
        self.is_complete = True
        """Whether the count has never exceeded the maximum."""

    @property
    def records(self) -> int:
        """Number of distinct refused records, at least."""
        return len(self._places)

    @property
    def by_topic(self) -> dict[str, int]:
        """Number of distinct refused records by topic, at least; topics without any are omitted."""
        counts = Counter(at >> _OFFSET_BITS for at in self._places.values())
        by_topic: Counter[str] = Counter()
        for number, count in counts.items():
            by_topic[self._sources[number].topic.removesuffix(DEAD_LETTER_SUFFIX)] += count
        return dict(sorted(by_topic.items()))

    @property
    def newest(self) -> list[DeadLetter]:
        """The latest dead letters of each topic, newest first, with the beginnings of their values."""
        letters = [letter for kept in self._newest.values() for letter in self._newest_of(kept)]
        return sorted(letters, key=_time_of, reverse=True)

    def look(self, edges: Mapping[TopicPartition, tuple[int, int]]) -> bool:
        """Read a bounded number of new dead letters, and return whether all have been read.

        Parameters
        ----------
        edges
            Current start and end of each partition of the topics.

        Raises
        ------
        TransientError
            If the consumer cannot be used.
        """
        if list(edges) != self._sources or any(end < self._next.get(source, 0) for source, (_, end) in edges.items()):
            self._begin_anew(list(edges))
        self._forget_deleted({source: start for source, (start, _) in edges.items()})
        until_s, left = time.monotonic() + LOOK_S, LETTERS_A_LOOK
        while self._is_behind(edges) and left > 0 and (left_s := until_s - time.monotonic()) > 0:
            left -= self._read(min(left, _AT_A_TIME), min(left_s, 0.1))
        return not self._is_behind(edges)

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close()

    def _is_behind(self, edges: Mapping[TopicPartition, tuple[int, int]]) -> bool:
        return any(self._next.get(source, 0) < end for source, (start, end) in edges.items() if start < end)

    def _begin_anew(self, sources: list[TopicPartition]) -> None:
        self._sources, self._next, self._starts = sources, {}, {}
        self._places, self._newest, self.is_complete = {}, {}, True
        if self._consumer is None:
            self._consumer = Consumer(
                client_config(self._kafka)
                | {
                    "group.id": self._kafka.on_broker("streamrec-observer"),  # the group is never joined
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "enable.partition.eof": True,
                    "queued.max.messages.kbytes": _PREFETCH_KILOBYTES,
                    "fetch.queue.backoff.ms": 50,
                }
            )
        try:
            self._consumer.assign([to_kafka(self._kafka, source, OFFSET_BEGINNING) for source in sources])
        except KafkaException as error:
            raise translate_exception(error, self._consumer) from error

    def _read(self, count: int, timeout_s: float) -> int:
        assert self._consumer is not None
        messages = self._consumer.consume(count, timeout_s)
        for message in messages:
            source = to_source(self._kafka, message)
            error = message.error()
            if error is None:
                self._take(DeadLetter(source, to_record(message)))
            elif error.code() == _END:  # beyond the last dead letter if a transaction was aborted
                self._next[source] = max(self._next.get(source, 0), int(message.offset() or 0))
        return len(messages)

    def _take(self, letter: DeadLetter) -> None:
        source, offset = letter.source, letter.record.offset
        self._next[source] = offset + 1
        identity = letter.identity
        if identity in self._places or len(self._places) < MAX_COUNTED:
            self._places[identity] = self._sources.index(source) << _OFFSET_BITS | offset
        else:
            self.is_complete = False
        kept = self._newest.setdefault(source.topic, deque(maxlen=2 * self._newest_count))
        if len(kept) == kept.maxlen:  # partitions are read one by one, so the newest need not be last
            newest = self._newest_of(kept)
            kept.clear()
            kept.extend(newest)
        kept.append(beginning(letter))

    def _newest_of(self, kept: Iterable[DeadLetter]) -> list[DeadLetter]:
        return nlargest(self._newest_count, kept, key=_time_of)

    def _forget_deleted(self, starts: Positions) -> None:
        """Remove records whose dead letters have been deleted by retention."""
        if starts == self._starts:
            return
        self._starts = starts
        first = [starts[source] for source in self._sources]
        mask = (1 << _OFFSET_BITS) - 1
        kept = {who: at for who, at in self._places.items() if at & mask >= first[at >> _OFFSET_BITS]}
        self._places = kept


def _time_of(letter: DeadLetter) -> int:
    return letter.record.timestamp_ms
