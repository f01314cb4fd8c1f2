"""Reading dead letters, and putting their records back where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from streamrec.adapters.kafka.broadcast import BroadcastReader
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

    @property
    def identity(self) -> int:
        """Tell the record from others: by what it holds, and by the id that it gives its event, else by its origin.

        A record that was put back, by us or by its producer, and refused again is the same record.
        """
        source, name = self.record.headers.get("ce_source"), self.record.headers.get("ce_id")
        if source is None or name is None or source == CE_SOURCE.encode():
            source, name = b"", (event_id_in(self.record.value) or self.origin).encode(errors="replace")
        parts = (self.source.topic.encode(), source, name, self.record.value or b"")
        digest = blake2b(digest_size=8)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return int.from_bytes(digest.digest(), "big")

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


def beginning(letter: DeadLetter) -> DeadLetter:
    """Return a letter with what it says of itself and the beginning of its value."""
    record = letter.record
    value = record.value and record.value[:BEGINNING_BYTES]
    said = {name: value for name, value in record.headers.items() if name.startswith(_HEADER_PREFIX)}
    return letter._replace(record=record._replace(value=value, headers=said))


def records_to_replay(letters: Iterable[DeadLetter]) -> Iterator[Outgoing]:
    """Return the record of each letter for the topic that it came from, each record once.

    A record that names its event keeps that name; another one is named by its origin, so that records that are put back
    twice are applied once.
    """
    replayed: set[int] = set()
    for letter in letters:
        identity = letter.identity
        if identity in replayed:
            continue
        replayed.add(identity)
        headers = {name: value for name, value in letter.record.headers.items() if not name.startswith(_HEADER_PREFIX)}
        if "ce_id" not in headers and event_id_in(letter.record.value) is None:
            headers |= {"ce_source": CE_SOURCE.encode(), "ce_id": letter.origin.encode()}
        topic = letter.source.topic.removesuffix(dead_letter_topic(""))
        yield Outgoing(topic, letter.record.key, letter.record.value, headers)


def event_id_in(value: bytes | None) -> str | None:
    """Return the id that a record gives its event, `None` if it gives none that can be read."""
    try:
        message: Any = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    event_id = message.get("event_id") if isinstance(message, dict) else None
    return event_id if isinstance(event_id, str) else None
