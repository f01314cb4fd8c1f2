"""Reading whole topics in every process: without a group, from the earliest offset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message

from streamrec.adapters.kafka.client import (
    UNREADABLE,
    client_config,
    to_kafka,
    to_source,
    translate,
    translate_exception,
)
from streamrec.adapters.kafka.gathering import Gathering, edges, is_end, send_to
from streamrec.adapters.kafka.lifeline import Lifeline
from streamrec.adapters.kafka.topic_ids import TopicWatch
from streamrec.adapters.kafka.unreadable import Search
from streamrec.errors import TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Batch, Slice, TopicPartition

MAX_BATCH_RECORDS = 500
PREFETCH_KILOBYTES = 16_384
_TIMEOUT_S = 30.0

_log = structlog.get_logger(__name__)


class BroadcastReader:
    """Reads every partition of some topics from the beginning, then follows them.

    Not thread-safe.

    Parameters
    ----------
    kafka
        Where Kafka is and how to get in.
    topics
        Topics to read.
    on_recreated
        Called with a re-created topic and its new id: what was read of it is invalid, and the next calls of `poll` read
        it from its beginning. Without it ids are not checked, for a single read.

    Raises
    ------
    TransientError
        If the broker does not answer, or a topic does not exist yet.
    """

    def __init__(
        self, *, kafka: KafkaAccess, topics: Sequence[str], on_recreated: Callable[[str, str], object] | None = None
    ) -> None:
        self._kafka = kafka
        self._recreated: dict[str, str] = {}
        """Topics still to be read from their beginning, with their ids."""
        self._on_recreated = on_recreated
        self._watch = None
        if on_recreated is not None:
            self._watch = TopicWatch(kafka, topics, _KnownIds(self._recreated))
            self._watch.check()  # before reading: topics re-created from now on have another id
        self._consumer = Consumer(
            client_config(kafka)
            | {
                "group.id": kafka.on_broker("streamrec-broadcast"),  # never joined: partitions are assigned manually
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # the last offset in a log may be a transaction marker
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": PREFETCH_KILOBYTES,
                "fetch.queue.backoff.ms": 50,
            }
        )
        self._lifeline = Lifeline(self._consumer, kafka)
        self._behind: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int | None] = {}
        self._arrived: list[Message] = []
        self._searches: dict[TopicPartition, Search] = {}
        self._seeks: dict[TopicPartition, int] = {}
        self.refused: Counter[tuple[str, str]] = Counter()
        """Unreadable records since the last access, by topic and reason."""
        self._begin(topics)

    def _begin(self, topics: Iterable[str]) -> None:
        """Read topics from their beginning, and others from their current positions.

        Raises
        ------
        TransientError
            If the broker does not answer, or a topic does not exist; nothing is changed.
        """
        behind: dict[TopicPartition, int] = {}
        sources: list[TopicPartition] = []
        try:
            for topic in topics:
                name = self._kafka.on_broker(topic)
                metadata = self._consumer.list_topics(name, timeout=_TIMEOUT_S).topics[name]
                if not metadata.partitions:
                    raise TransientError(f"topic {name} does not exist yet")
                for number in metadata.partitions:
                    source = TopicPartition(topic, number)
                    low, high = self._consumer.get_watermark_offsets(to_kafka(self._kafka, source), timeout=_TIMEOUT_S)
                    if low < high:
                        behind[source] = high
                    sources.append(source)
        except KafkaException as error:
            raise translate_exception(error, self._consumer) from error
        begun = {source.topic for source in sources}
        kept = {source: next_ for source, next_ in self._next.items() if source.topic not in begun}
        self._behind = {source: end for source, end in self._behind.items() if source in kept} | behind
        self._next = kept | dict.fromkeys(sources)
        self._arrived, self._searches, self._seeks = [], {}, {}  # read again; unreadable batches are detected again
        self._consumer.assign(
            [
                to_kafka(self._kafka, source, OFFSET_BEGINNING if next_ is None else next_)
                for source, next_ in self._next.items()
            ]
        )

    @property
    def caught_up(self) -> bool:
        """Whether everything that existed when reading started has been read."""
        return not self._behind

    def poll(self, timeout_s: float) -> Batch | None:
        """Wait for records and return all that have arrived, or `None` on timeout.

        Unreadable records are counted as `refused` and skipped.

        Raises
        ------
        TransientError
            If the broker's offsets cannot be determined; the next call returns what arrived meanwhile.
        StreamrecError
            If the client cannot recover.
        """
        self._look_for_recreated()
        self._receive(timeout_s)
        if not self._arrived:
            self._lifeline.check()
            if not self._searches:
                return None
        found = Gathering(
            self._kafka,
            self._next,
            self._searches,
            self._seeks,
            report_lost=None,
            edges=partial(edges, self._kafka, self._consumer),
        )
        found.take(message for message in self._arrived if not is_end(message))
        ends = [to_source(self._kafka, message) for message in self._arrived if is_end(message)]
        self._arrived, self._searches, self._seeks = [], found.searches, found.seeks
        send_to(self._kafka, self._consumer, self._seeks)
        for source, because in found.stopped.items():
            _log.error("partition stopped", topic=source.topic, partition=source.partition, because=because)
        for source, part in found.slices.items():
            self._next[source] = part.next
            if part.next >= self._behind.get(source, part.next + 1):
                ends.append(source)
        for source in ends:
            self._behind.pop(source, None)
        return self._readable(found.slices.values())

    def _look_for_recreated(self) -> None:
        """Read re-created topics from their beginning, once the broker knows their partitions."""
        if self._watch is None or self._on_recreated is None:
            return
        self._watch.look()
        if not self._recreated:
            return
        self._begin(self._recreated)
        for topic, topic_id in self._recreated.items():
            _log.error("topic was re-created", topic=topic, id=topic_id, instead="it is read from its beginning")
            self._on_recreated(topic, topic_id)
        self._recreated.clear()

    def _receive(self, timeout_s: float) -> None:
        try:
            if not self._arrived:
                first = self._consumer.poll(timeout_s)
                if first is None:
                    return
                self._arrived.append(first)
            self._lifeline.heard()
            self._arrived += self._consumer.consume(max(1, MAX_BATCH_RECORDS - len(self._arrived)), 0)
        except KafkaException as error:
            raise translate(error.args[0]) from error

    def _readable(self, slices: Iterable[Slice]) -> Batch | None:
        kept = []
        for part in slices:
            records = [record for record in part.records if record.fault is None or record.fault.reason != UNREADABLE]
            if len(records) < len(part.records):
                self.refused[part.source.topic, UNREADABLE] += len(part.records) - len(records)
            if records:
                kept.append(Slice(part.source, part.start, part.next, records))
        return Batch(kept) if kept else None

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


class _KnownIds:
    """The ids of topics being read: a changed id is reported, but not refused.

    Parameters
    ----------
    recreated
        Receives topics with a changed id, and that id.
    """

    other_topics = ()

    def __init__(self, recreated: dict[str, str]) -> None:
        self._recreated = recreated
        self._ids: dict[str, str] = {}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return {topic: self._ids[topic] for topic in topics if topic in self._ids}

    def adopt_topic_ids(self, ids: Mapping[str, str]) -> None:
        self._recreated.update({topic: topic_id for topic, topic_id in ids.items() if topic in self._ids})
        self._ids |= ids

    def contains_any(self, sources: Sequence[TopicPartition]) -> bool:
        return not sources  # no positions are stored
