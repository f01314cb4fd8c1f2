"""Dead letters: refused records with the reason, shortened to the topic's record size limit."""

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
from streamrec.service.record_size import fits, size_of, size_of_header

MAX_CUT_KEY_BYTES = 1_024
"""Bytes kept of a key if key and value do not fit together."""

MIN_VALUE_BYTES = 65_536
"""Bytes of the value that are kept before a key is shortened."""

_LENGTHS_BYTES = 16
"""Reserve for the variable-length sizes of key, value and headers."""

_ALL_CUT = "headers,key,value"


def dead_letter(
    source: TopicPartition,
    record: Record,
    error: BadRecordError,
    stage: str,
    room: int = BROKER_MAX_MESSAGE_BYTES,
) -> Outgoing:
    """Return the dead letter of a refused record.

    If the record does not fit, the producer's headers are dropped first, the largest ones before the others, then the
    end of the value is cut. Headers of the dead letter state what was shortened and its original size; the complete
    record is still at its original position.

    Parameters
    ----------
    source, record
        The refused record and its partition.
    error
        The reason.
    stage
        The worker that refused the record.
    room
        Record size limit of the dead-letter topic, overhead included, in bytes.
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
    return whole if fits(whole, room) else _cut(topic, record, said, room)


class _Kept(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def _cut(topic: str, record: Record, said: DeadLetterHeaders, room: int) -> Outgoing:
    said = msgspec.structs.replace(
        said,
        cut=_ALL_CUT,  # the longest possible value
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
    """Return what fits in the remaining bytes: key and value before headers, small headers before large ones."""
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
