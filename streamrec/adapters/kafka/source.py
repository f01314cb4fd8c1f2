"""Consuming partitions in batches, from positions in a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import client_config, patience, to_kafka, to_source, translate
from streamrec.adapters.kafka.commits import Commits
from streamrec.adapters.kafka.gathering import Batching, Gathering, edges, is_end, send_to
from streamrec.adapters.kafka.lifeline import Lifeline
from streamrec.adapters.kafka.topic_ids import TopicWatch
from streamrec.adapters.kafka.unreadable import Search
from streamrec.errors import TransientError, WrongTopicError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Batch, Positions, TopicPartition
from streamrec.service.ports import TopicIdStore

SESSION_TIMEOUT_MS = 6_000
"""How long a dead worker keeps its partitions; the minimum that brokers allow by default."""

PACE_S = 0.004
MAX_REST_S = 0.003
SMALL_BATCH_RECORDS = 16
"""After a small batch the consumer pauses for as long as the batch took, so that the next one is larger: in a quiet
stream records do not wait, and in a busy one each costs less. Larger batches or longer pauses save little more."""

PREFETCH_KILOBYTES = 4_096
"""Several batches: more would only take memory while a store is unavailable."""

ERROR_PAUSE_MS = 100
"""Backoff of a partition whose fetch failed."""

_BATCHING = Batching()

_log = structlog.get_logger(__name__)


class BatchSource:
    """A group consumer that starts at the store's positions, not at Kafka's committed offsets.

    The batch size adapts to the load: a batch is whatever has arrived. Offsets are committed for lag monitoring only.
    Not thread-safe.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    group
        Consumer group.
    topics
        Topics to consume. The range assignor gives a member the same partition numbers of each topic, so that one
        worker owns a user.
    positions
        Returns the store's next offset of each given partition; missing ones start at the beginning.
    batching
        How batches are gathered.
    topic_ids
        Keeps which topics the positions are of: one that was re-created is refused. Without it, names alone count.
    """

    def __init__(
        self,
        *,
        kafka: KafkaAccess,
        group: str,
        topics: Sequence[str],
        positions: Callable[[Sequence[TopicPartition]], Positions],
        batching: Batching = _BATCHING,
        topic_ids: TopicIdStore | None = None,
    ) -> None:
        self._kafka = kafka
        self._max_records = batching.max_records
        self._positions = positions
        self._next: dict[TopicPartition, int | None] = {}
        self._starts: dict[TopicPartition, int] = {}
        self._arrived: list[Message] = []
        self._searches: dict[TopicPartition, Search] = {}
        self._seeks: dict[TopicPartition, int] = {}
        """Pending seeks."""
        self._commits = Commits(kafka)
        self._stopped: dict[TopicPartition, str] = {}
        self._paused = False
        self._began_s: float | None = None
        """Start time of the batch in flight."""
        self._next_batch_s = 0.0
        self._watch = TopicWatch(kafka, topics, topic_ids) if topic_ids is not None else None
        if self._watch is not None:
            self._watch.check()  # before joining: the group would wait for a member that does not stay
        self._consumer = Consumer(
            client_config(kafka)
            | {
                "group.id": kafka.on_broker(group),
                "partition.assignment.strategy": "range",
                "session.timeout.ms": SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 6,
                # stored offsets are committed every second, and on a rebalance
                "enable.auto.commit": True,
                "auto.commit.interval.ms": 1_000,
                "enable.auto.offset.store": False,
                "on_commit": self._commits.committed,
                "fetch.error.backoff.ms": ERROR_PAUSE_MS,
                # positions outside of the log are detected and reported here
                "auto.offset.reset": "error",
                # a log may end with transaction markers and aborted records: positions move past them
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": PREFETCH_KILOBYTES,
                "fetch.queue.backoff.ms": 50,
                "topic.metadata.refresh.interval.ms": 10_000,
            }
            | patience(batching.patience_ms)
        )
        self._lifeline = Lifeline(self._consumer, kafka, group=kafka.on_broker(group))
        self._consumer.subscribe(
            [kafka.on_broker(topic) for topic in topics],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._revoked,
        )

    @property
    def sources(self) -> list[TopicPartition]:
        """Currently assigned partitions."""
        return list(self._next)

    @property
    def stopped(self) -> Mapping[TopicPartition, str]:
        """Partitions that cannot be read at present, and why; partition -1 is the whole topic."""
        return self._stopped

    def poll(self, timeout_s: float) -> Batch | None:
        """Wait for records and return all that have arrived, or `None` on timeout.

        Unreadable records are returned with a fault. An error in one partition does not stop others.

        Raises
        ------
        TransientError
            If the broker's offsets cannot be determined; the next call returns what arrived meanwhile.
        WrongTopicError
            If a topic is not the one that the positions refer to.
        StreamrecError
            If the client cannot recover.
        """
        self._resume()
        send_to(self._kafka, self._consumer, self._seeks)
        if self._watch is not None:
            self._watch.look()
        self._receive(timeout_s)
        if not self._arrived:
            self._lifeline.check()
            if not self._searches:
                return None
        batch = self._gather()  # if it raises, what arrived is kept for the next call
        self._arrived = []
        return batch

    def settle(self, stored: Positions) -> None:
        """Update the positions from the store after a batch, and seek where they differ from ours."""
        if self._began_s is not None:
            now_s = time.monotonic()
            self._next_batch_s = max(self._began_s + PACE_S, now_s + min(MAX_REST_S, now_s - self._began_s))
            self._began_s = None
        known = {source: offset for source, offset in stored.items() if source in self._next}  # others were revoked
        for source, offset in known.items():
            was = self._next[source] or 0
            if was != offset:
                _log.warning("seek", topic=source.topic, partition=source.partition, to=offset, was=was)
                if offset < was:
                    self._commits.note(source, was)
                self._next[source] = offset
                self._seeks[source] = offset
                self._searches.pop(source, None)
                self._arrived = [message for message in self._arrived if to_source(self._kafka, message) != source]
        send_to(self._kafka, self._consumer, self._seeks)
        self._commits.take(self._consumer, known)

    def keep_alive(self) -> None:
        """Keep the group membership during a long batch: nothing is read, rebalances are handled."""
        assigned = self._consumer.assignment()
        if assigned:
            self._consumer.pause(assigned)
            self._paused = True
        message = self._consumer.poll(0)
        if message is not None:  # from a partition that was just assigned
            self._arrived.append(message)

    def close(self) -> None:
        """Commit processed offsets and leave the group."""
        self._consumer.close()

    def _resume(self) -> None:
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False

    def _receive(self, timeout_s: float) -> None:
        """Add newly arrived records, waiting for them if there are none."""
        try:
            if not self._arrived:
                first = self._first(timeout_s)
                if first is None:
                    return
                self._arrived.append(first)
                time.sleep(max(0.0, self._next_batch_s - time.monotonic()))
            self._lifeline.heard()
            self._began_s = time.monotonic()
            # consume() waits for the requested number or the timeout; with timeout 0 it returns what is available
            more = self._consumer.consume(max(1, self._max_records - len(self._arrived)), 0)
            self._arrived += more  # not in one statement: an assignment during consume() discards what was there
        except KafkaException as error:
            raise translate(error.args[0]) from error
        if len(self._arrived) >= SMALL_BATCH_RECORDS + sum(map(is_end, self._arrived[: 2 * SMALL_BATCH_RECORDS])):
            self._began_s = None  # no pause

    def _first(self, timeout_s: float) -> Message | None:
        """Wait for a message, ignoring end-of-partition events after the last record."""
        until_s = time.monotonic() + timeout_s
        while True:
            message = self._consumer.poll(max(0.0, until_s - time.monotonic()))
            if message is None or not is_end(message):
                return message
            if (message.offset() or 0) > (self._next.get(to_source(self._kafka, message)) or 0):
                return message
            self._lifeline.heard()

    def _gather(self) -> Batch | None:
        """Return what arrived; an error leaves the state unchanged."""
        found = Gathering(
            self._kafka,
            self._next,
            self._searches,
            self._seeks,
            report_lost=self._report_lost,
            edges=partial(edges, self._kafka, self._consumer),
        )
        found.take(self._arrived)
        for source, position in found.cut_off.items():
            self._check_position(source, position)
        for source, part in found.slices.items():
            self._next[source] = part.next
            if self._stopped.pop(source, None):
                _log.info("partition is read again", topic=source.topic, partition=source.partition)
        for source, because in found.stopped.items():
            if self._stopped.get(source) != because:
                _log.error("partition stopped", topic=source.topic, partition=source.partition, because=because)
                self._stopped[source] = because
        self._searches = found.searches
        self._seeks |= found.seeks
        if found.cut_off:
            self._continue_without({source: self._starts[source] for source in found.cut_off})
        send_to(self._kafka, self._consumer, self._seeks)
        return Batch(list(found.slices.values())) if found.slices else None

    def _assigned(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        sources = [to_source(self._kafka, part) for part in partitions]
        if self._watch is not None:
            self._watch.check()
        stored = self._positions(sources)
        self._arrived, self._searches, self._seeks, self._stopped = [], {}, {}, {}
        self._next = {source: stored.get(source) for source in sources}
        # a broker that cannot tell now is asked no further, and refuses what it no longer has when it is read
        with suppress(TransientError):
            for source, offset in stored.items():
                self._check_position(source, offset)
        consumer.assign([self._at(source, offset) for source, offset in self._next.items()])
        consumer.resume(partitions)  # a pause outlives its assignment
        _log.info("assigned", partitions=[f"{s.topic}:{s.partition}@{stored.get(s, 'start')}" for s in sources])

    def _revoked(self, _consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        # a batch is completed before the next poll, so nothing of these partitions is in flight here
        for part in partitions:
            source = to_source(self._kafka, part)
            if position := self._next.get(source):  # a store emptied meanwhile causes it to be read again
                self._commits.note(source, position)
            for known in (self._next, self._searches, self._seeks, self._stopped):
                known.pop(source, None)

    def _continue_without(self, starts: Positions) -> None:
        """Continue with partitions whose logs were truncated beyond our positions while we read them."""
        self._searches, self._seeks = {}, {}  # unreadable batches are detected again
        # librdkafka does not accept seeks in a failed partition, but a new assignment
        self._consumer.assign([self._at(source, starts.get(source, next_)) for source, next_ in self._next.items()])

    def _check_position(self, source: TopicPartition, offset: int) -> None:
        """Refuse a partition that is not the one read before, and log records lost to retention."""
        high = self._report_lost(source, offset)
        if offset > high:
            raise WrongTopicError(
                f"{source.topic}:{source.partition} ends at {high}, yet it was read up to {offset}: "
                "it was re-created, or the broker lost records; start with empty stores, or with the right broker"
            )

    def _report_lost(self, source: TopicPartition, position: int) -> int:
        """Log once, as an error, how many records after a position the broker has deleted; return the partition's end.

        Offsets missing because of compaction or transactions are not losses.
        """
        low, high = edges(self._kafka, self._consumer, source)
        known = max(position, self._starts.get(source, 0))
        if low > known:
            _log.error(
                "records lost", topic=source.topic, partition=source.partition, count=low - known, position=position
            )
        self._starts[source] = max(low, known)
        return high

    def _at(self, source: TopicPartition, offset: int | None) -> KafkaPartition:
        return to_kafka(self._kafka, source, OFFSET_BEGINNING if offset is None else offset)
