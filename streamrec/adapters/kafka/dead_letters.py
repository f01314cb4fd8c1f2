"""Reading dead letters, and replaying their records to the original topics."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import closing
from hashlib import blake2b
from typing import NamedTuple

from streamrec.adapters.kafka.broadcast import BroadcastReader
from streamrec.adapters.kafka.lag import open_observer, partitions_of
from streamrec.contracts.decode import ID_REUSED, event_name_in
from streamrec.contracts.topics import EVENT_TOPICS, ITEMS, PRODUCED_TOPICS, dead_letter_topic
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Record, TopicPartition
from streamrec.service.ports import Outgoing

DEAD_LETTER_TOPICS = tuple(map(dead_letter_topic, PRODUCED_TOPICS))
CE_SOURCE = "streamrec-dlq"
"""CloudEvents source of the ids given to records without one on replay."""

_HEADER_PREFIX = "dlq."
BEGINNING_BYTES = 1_000
"""Bytes kept of a value that is only displayed."""

_POLL_S = 1.0


class DeadLetter(NamedTuple):
    """A refused record, with the reason."""

    source: TopicPartition
    """Position of the dead letter."""
    record: Record
    """Original key and value; headers with the reason."""

    @property
    def position(self) -> str:
        """Format the dead letter's position, `topic:partition:offset`."""
        return f"{self.source.topic}:{self.source.partition}:{self.record.offset}"

    @property
    def origin(self) -> str:
        """Original position of the record, `topic:partition:offset`."""
        if self.record.headers.get("ce_source") == CE_SOURCE.encode():
            return self.record.headers["ce_id"].decode(errors="replace")
        return ":".join(self.header(name) for name in ("topic", "partition", "offset"))

    @property
    def topic(self) -> str:
        """Original topic of the record."""
        return self.source.topic.removesuffix(dead_letter_topic(""))

    @property
    def identity(self) -> int:
        """Identify the record: by its content and its event id, else by its original position.

        A record that was replayed, or produced again, and refused again is the same record.
        """
        source, name = self.record.headers.get("ce_source"), self.record.headers.get("ce_id")
        if self.topic not in EVENT_TOPICS:
            source, name = b"", self.record.key or b""
        elif source is None or name is None or source == CE_SOURCE.encode():
            source, name = b"", (event_name_in(self.record.value) or self.origin).encode(errors="replace")
        parts = (self.source.topic.encode(), source, name, self.record.value or b"")
        digest = blake2b(digest_size=8)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return int.from_bytes(digest.digest(), "big")

    @property
    def has_name(self) -> bool:
        """Whether the record has an event id that does not belong to a different event."""
        if self.header("reason") == ID_REUSED:
            return False
        return "ce_id" in self.record.headers or event_name_in(self.record.value) is not None

    def header(self, name: str) -> str:
        """Return a `dlq.` header, empty if missing."""
        return self.record.headers.get(_HEADER_PREFIX + name, b"").decode(errors="replace")


def read_dead_letters(kafka: KafkaAccess) -> Iterator[DeadLetter]:
    """Read all current dead letters in chunks; an older installation may lack some of the topics.

    Raises
    ------
    TransientError
        If the broker does not answer, or none of the topics exists yet.
    """
    with closing(open_observer(kafka)) as observer:
        found = {source.topic for source in partitions_of(observer, list(map(kafka.on_broker, DEAD_LETTER_TOPICS)))}
    topics = [topic for topic in DEAD_LETTER_TOPICS if kafka.on_broker(topic) in found]
    with closing(BroadcastReader(kafka=kafka, topics=topics or DEAD_LETTER_TOPICS)) as reader:
        while not reader.caught_up:
            batch = reader.poll(_POLL_S)
            for source, record in batch or ():
                yield DeadLetter(source, record)


def beginning(letter: DeadLetter) -> DeadLetter:
    """Return a dead letter with its `dlq.` headers and the beginning of its value."""
    record = letter.record
    value = record.value and record.value[:BEGINNING_BYTES]
    said = {name: value for name, value in record.headers.items() if name.startswith(_HEADER_PREFIX)}
    return letter._replace(record=record._replace(value=value, headers=said))


def records_to_replay(
    letters: Iterable[DeadLetter], *, newest_items: Mapping[bytes, int] | None = None
) -> Iterator[Outgoing]:
    """Return the record of each dead letter for its original topic, each record once.

    A record keeps its event id; one without an id, or with that of a different event, gets its original position as id,
    so that records replayed twice are applied once. Newer records of an item are not overwritten.

    Parameters
    ----------
    letters
        Dead letters to replay.
    newest_items
        The offset of the latest record of each key on `items`.
    """
    replayed: set[int] = set()
    for letter in letters:
        topic, identity = letter.topic, letter.identity
        if identity in replayed or (topic == ITEMS and _is_superseded(letter, newest_items or {})):
            continue
        replayed.add(identity)
        headers = {name: value for name, value in letter.record.headers.items() if not name.startswith(_HEADER_PREFIX)}
        if topic in EVENT_TOPICS and not letter.has_name:
            headers |= {"ce_source": CE_SOURCE.encode(), "ce_id": letter.origin.encode()}
        yield Outgoing(topic, letter.record.key, letter.record.value, headers)


def newest_item_records(kafka: KafkaAccess, keys: Container[bytes]) -> dict[bytes, int]:
    """Return the offset of the latest record of each of these keys on `items`.

    Raises
    ------
    TransientError
        If the broker does not answer, or the topic does not exist yet.
    """
    newest: dict[bytes, int] = {}
    with closing(BroadcastReader(kafka=kafka, topics=[ITEMS])) as reader:
        while not reader.caught_up:
            for _, record in reader.poll(_POLL_S) or ():
                if record.key is not None and record.key in keys:
                    newest[record.key] = record.offset
    return newest


def _is_superseded(letter: DeadLetter, newest_items: Mapping[bytes, int]) -> bool:
    offset = letter.header("offset")
    return offset.isdigit() and int(offset) < newest_items.get(letter.record.key or b"", -1)
