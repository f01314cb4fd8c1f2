"""A consumer over logs in memory, which reports what it cannot read in the way of librdkafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

from builders import NOW_MS, click
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.service.batch import TopicPartition


@dataclass(frozen=True)
class Bad:
    """Offsets that cannot be read: a batch, which is fetched and refused whole, or single records."""

    first: int
    last: int
    code: int = KafkaError._BAD_COMPRESSION
    names_batch: bool = True
    """Whether the error names the beginning of the batch, as librdkafka does where it unpacks; else the fetch."""
    skips: bool = False
    """Whether the client continues behind it by itself."""


class Headerless(Message):
    """A record with a header whose name is not UTF-8."""

    def headers(self):
        return b"\xff".decode()


@dataclass
class Log:
    """What a partition holds."""

    end: int
    bad: list[Bad] = field(default_factory=list)
    headerless: frozenset[int] = frozenset()
    start: int = 0
    gaps: frozenset[int] = frozenset()
    """Offsets without a record: marks of transactions, or compacted."""
    values: dict[int, bytes] = field(default_factory=dict)
    """What stands in the place of a click."""


class ConsumerDouble:
    """Stands in for `confluent_kafka.Consumer`."""

    def __init__(self, logs: dict[TopicPartition, Log]) -> None:
        self.logs = logs
        self.at: dict[TopicPartition, int] = {}
        self.queued: list[Message] = []
        """Comes before anything from the logs."""
        self.raises: list[Exception] = []
        """Raised by the next calls that read."""
        self.errors_told = 0
        self.seeks: list[tuple[TopicPartition, int]] = []
        self.refuses_seeks = 0
        self.closed = False
        self.answers = True
        """Whether it tells where partitions begin and end."""
        self.waited_s = 0.0
        """For such answers."""
        self.stored: dict[TopicPartition, int] = {}
        self._join = None

    def subscribe(self, topics, *, on_assign, **_callbacks):
        mine = [KafkaPartition(*source) for source in self.logs if source.topic in topics]
        self._join = lambda: on_assign(self, mine)

    def assign(self, partitions):
        self.at = {
            TopicPartition(part.topic, part.partition): self.logs[part.topic, part.partition].start
            if part.offset == OFFSET_BEGINNING
            else part.offset
            for part in partitions
        }

    def assignment(self):
        return [KafkaPartition(*source) for source in self.at]

    def pause(self, _partitions):
        """Nothing is read ahead here."""

    resume = pause

    def poll(self, _timeout_s=0.0):
        if self._join:
            join, self._join = self._join, None
            join()
        return next(iter(self.consume(1, 0)), None)

    def consume(self, count, _timeout_s):
        if self.raises:
            raise self.raises.pop(0)
        read, self.queued = self.queued[:count], self.queued[count:]
        for source in self.at:
            while len(read) < count and (message := self._next(source)) is not None:
                read.append(message)
                if message.error() is not None:
                    break  # it is fetched again only later
        return read

    def _next(self, source):
        log, at = self.logs[source], self.at[source]
        while at in log.gaps:
            at += 1
        if at >= log.end:
            return None
        for bad in log.bad:
            if bad.first <= at <= bad.last:
                self.errors_told += 1
                if bad.skips:
                    self.at[source] = bad.last + 1
                return error(source, bad.code, bad.first if bad.names_batch else at)
        self.at[source] = at + 1
        kind = Headerless if at in log.headerless else Message
        return kind(
            topic=source.topic,
            partition=source.partition,
            offset=at,
            key=b"u1",
            value=log.values.get(at) or click("u1", f"i{at}"),
            headers=[("h", b"v")],
            timestamp=(1, NOW_MS),
        )

    def seek(self, part):
        if self.refuses_seeks:
            self.refuses_seeks -= 1
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.seeks.append((TopicPartition(part.topic, part.partition), part.offset))
        self.at[TopicPartition(part.topic, part.partition)] = part.offset

    def get_watermark_offsets(self, part, *, timeout):
        if not self.answers:
            self.waited_s += timeout
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        if self.raises:
            raise self.raises.pop(0)
        log = self.logs[part.topic, part.partition]
        return log.start, log.end

    def list_topics(self, *_topic, **_options):
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def store_offsets(self, *, offsets):
        self.stored |= {TopicPartition(part.topic, part.partition): part.offset for part in offsets}

    def commit(self, **_options):
        """Kafka's committed offsets are for lag monitoring only."""

    def close(self):
        self.closed = True


def with_topics(*names):
    """Return what `list_topics` answers about topics of one partition."""
    topics = {name: SimpleNamespace(partitions={0: None}) for name in names}
    return lambda *_topic, **_options: SimpleNamespace(topics=topics)


def error(source, code, offset=-1001):
    return Message(topic=source.topic, partition=source.partition, offset=offset, error=KafkaError(code))
