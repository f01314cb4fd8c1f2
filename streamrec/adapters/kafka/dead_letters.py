"""Reading dead letters, and putting their records back where they came from."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.broadcast import BroadcastReader
from streamrec.adapters.kafka.client import to_record, to_source
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of, start_offsets
from streamrec.contracts.topics import CLICKS, PURCHASES, dead_letter_topic
from streamrec.service.batch import Record, TopicPartition
from streamrec.service.ports import Outgoing
from streamrec.settings import KafkaAccess

DEAD_LETTER_TOPICS = (dead_letter_topic(CLICKS), dead_letter_topic(PURCHASES))
CE_SOURCE = "streamrec-dlq"
"""Source of the ids that records without one get when they are put back."""

_HEADER_PREFIX = "dlq."
BEGINNING_BYTES = 1_000
"""What is kept of the value of a letter that is only to be looked at."""

_POLL_S = 1.0
_TIMEOUT_S = 5.0


class DeadLetter(NamedTuple):
    """A record that was refused, with the reason."""

    source: TopicPartition
    """Where the letter stands."""
    record: Record
    """Key and value as they were produced; headers with the reason."""

    @property
    def position(self) -> str:
        """Name the letter, `topic:partition:offset`."""
        return f"{self.source.topic}:{self.source.partition}:{self.record.offset}"

    @property
    def origin(self) -> str:
        """Where the record was when it was refused first, `topic:partition:offset`."""
        if self.record.headers.get("ce_source") == CE_SOURCE.encode():
            return self.record.headers["ce_id"].decode(errors="replace")
        return ":".join(self.header(name) for name in ("topic", "partition", "offset"))

    def header(self, name: str) -> str:
        """Return what the letter says of itself, empty where it says nothing."""
        return self.record.headers.get(_HEADER_PREFIX + name, b"").decode(errors="replace")


def read_dead_letters(kafka: KafkaAccess) -> Iterator[DeadLetter]:
    """Read all letters that are there now, some at a time.

    Raises
    ------
    TransientError
        If the broker does not answer, or the topics do not exist yet.
    """
    with closing(BroadcastReader(kafka=kafka, topics=DEAD_LETTER_TOPICS)) as reader:
        while not reader.caught_up:
            batch = reader.poll(_POLL_S)
            for source, record in batch or ():
                yield DeadLetter(source, record)


def newest_dead_letters(kafka: KafkaAccess, count: int) -> list[DeadLetter]:
    """Return the newest letters of each topic, at most so many, newest first, with the beginnings of their values.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    letters: list[DeadLetter] = []
    with closing(open_observer(kafka)) as observer:
        sources = partitions_of(observer, [kafka.on_broker(topic) for topic in DEAD_LETTER_TOPICS])
        starts, ends = start_offsets(observer, sources), end_offsets(observer, sources)
        firsts = {source: max(starts[source], ends[source] - count) for source in sources}
        left = {source for source in sources if firsts[source] < ends[source]}
        observer.assign([KafkaPartition(*source, firsts[source]) for source in left])
        end_s = time.monotonic() + _TIMEOUT_S
        while left and (left_s := end_s - time.monotonic()) > 0:
            message = observer.poll(left_s)
            if message is None or message.error() is not None:
                continue
            source = TopicPartition(str(message.topic()), int(message.partition() or 0))
            letters.append(_beginning(DeadLetter(to_source(kafka, message), to_record(message))))
            if letters[-1].record.offset + 1 >= ends[source]:
                left.discard(source)
    letters.sort(key=lambda letter: letter.record.timestamp_ms, reverse=True)
    by_topic = [[each for each in letters if each.source.topic == topic][:count] for topic in DEAD_LETTER_TOPICS]
    return sorted(chain.from_iterable(by_topic), key=lambda letter: letter.record.timestamp_ms, reverse=True)


def _beginning(letter: DeadLetter) -> DeadLetter:
    """Return a letter with what it says of itself and the beginning of its value."""
    record = letter.record
    value = record.value and record.value[:BEGINNING_BYTES]
    said = {name: value for name, value in record.headers.items() if name.startswith(_HEADER_PREFIX)}
    return letter._replace(record=record._replace(value=value, headers=said))


def records_to_replay(letters: Iterable[DeadLetter]) -> Iterator[Outgoing]:
    """Return the record of each letter for the topic that it came from, each origin once.

    A record that names its event keeps that name; another one is named by its origin, so that records that are put back
    twice are applied once.
    """
    replayed: set[str] = set()
    for letter in letters:
        if letter.origin in replayed:
            continue
        replayed.add(letter.origin)
        headers = {name: value for name, value in letter.record.headers.items() if not name.startswith(_HEADER_PREFIX)}
        if "ce_id" not in headers and not _names_its_event(letter.record.value):
            headers |= {"ce_source": CE_SOURCE.encode(), "ce_id": letter.origin.encode()}
        topic = letter.source.topic.removesuffix(dead_letter_topic(""))
        yield Outgoing(topic, letter.record.key, letter.record.value, headers)


def _names_its_event(value: bytes | None) -> bool:
    try:
        message: Any = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(message, dict) and isinstance(message.get("event_id"), str)
