"""Dead letters: a refused record, as much of it as its topic takes, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streamrec import __version__
from streamrec.contracts.headers import MAX_MESSAGE_BYTES, DeadLetterHeaders
from streamrec.contracts.topics import BROKER_MAX_MESSAGE_BYTES, dead_letter_topic
from streamrec.errors import BadRecordError
from streamrec.service.batch import Record, TopicPartition
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import size_of, size_of_header

MAX_CUT_KEY_BYTES = 1_024
"""What is kept of a key where key and value do not fit together."""

MIN_VALUE_BYTES = 65_536
"""A key is cut before less than this is left of the value."""

_LENGTHS_BYTES = 16
"""Lengths of key and value and the number of headers take a few bytes more as they grow."""

_ALL_CUT = "headers,key,value"


def dead_letter(
    source: TopicPartition,
    record: Record,
    error: BadRecordError,
    stage: str,
    room: int = BROKER_MAX_MESSAGE_BYTES,
) -> Outgoing:
    """Return the dead letter of a record that was refused.

    Where the record does not fit, the producer's headers go first, the largest of them before the others, then the end
    of the value. Headers of the letter say what was cut and how large it was; the whole record stays where they say.

    Parameters
    ----------
    source, record
        What was refused, and the partition that it stands in.
    error
        Why.
    stage
        The worker that refused it.
    room
        Bytes that the dead-letter topic takes in one record, overhead included.
    """
    said = DeadLetterHeaders(
        topic=source.topic,
        partition=source.partition,
        offset=record.offset,
        timestamp=record.timestamp_ms,
        reason=error.reason,
        message=error.detail.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore"),
        stage=stage,
        app_version=__version__,
    )
    topic = dead_letter_topic(source.topic)
    whole = Outgoing(topic, record.key, record.value, {**record.headers, **said.encode()})
    return whole if size_of(whole) <= room else _cut(topic, record, said, room)


class _Kept(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def _cut(topic: str, record: Record, said: DeadLetterHeaders, room: int) -> Outgoing:
    said = msgspec.structs.replace(
        said,
        cut=_ALL_CUT,  # takes the most room that it can
        key_bytes=len(record.key or b""),
        value_bytes=len(record.value or b""),
        headers_bytes=sum(size_of_header(name, value) for name, value in record.headers.items()),
    )
    kept = _fitting(record, room - size_of(Outgoing(topic, b"", b"", said.encode())) - _LENGTHS_BYTES)
    cut = [
        name
        for name, was, now in (
            ("headers", dict(record.headers), kept.headers),
            ("key", record.key, kept.key),
            ("value", record.value, kept.value),
        )
        if was != now
    ]
    said = msgspec.structs.replace(said, cut=",".join(cut))
    return Outgoing(topic, kept.key, kept.value, {**kept.headers, **said.encode()})


def _fitting(record: Record, left: int) -> _Kept:
    """Return what fits into the bytes that are left: key and value before headers, small headers before large ones."""
    key, value = record.key, record.value
    if key is not None and left - len(key) < min(len(value or b""), MIN_VALUE_BYTES):
        key = key[:MAX_CUT_KEY_BYTES]
    left = max(0, left - len(key or b""))
    if value is not None:
        value = value[:left]
        left -= len(value)
    return _Kept(key, value, _smallest(record.headers, left))


def _smallest(headers: Mapping[str, bytes], left: int) -> dict[str, bytes]:
    kept = {}
    for size, name in sorted((size_of_header(name, value), name) for name, value in headers.items()):
        left -= size
        if left < 0:
            break
        kept[name] = headers[name]
    return kept
