"""Size of a produced record as the broker compares it with `max.message.bytes`."""

from __future__ import annotations

from collections.abc import Mapping

from streamrec.service.ports import Outgoing

_BATCH_HEADER_BYTES = 61
"""Records are sent in batches, whose size the broker checks; this is a batch of a single record."""

_RECORD_FIELDS_BYTES = 3
"""Attributes, and the deltas of time and offset to the batch, which are 0 for its first record."""


_MOST_OVERHEAD_BYTES = 96
"""At least the size of a record without headers beyond its key and value."""


def fits(record: Outgoing, room: int) -> bool:
    """Return whether a record is at most this large, as computed by :func:`size_of`."""
    if not record.headers and len(record.key or b"") + len(record.value or b"") + _MOST_OVERHEAD_BYTES <= room:
        return True  # the common case
    return size_of(record) <= room


def size_of(record: Outgoing) -> int:
    """Return the size of a record sent alone and uncompressed, in bytes.

    References
    ----------
    Kafka protocol, record batch of magic 2 (https://kafka.apache.org/documentation/#messageformat).

    Examples
    --------
    >>> size_of(Outgoing("clicks", b"u1", b"{}")), size_of(Outgoing("clicks", None, None, {"h": b"v"}))
    (72, 72)
    """
    body = (
        _RECORD_FIELDS_BYTES + _field_bytes(record.key) + _field_bytes(record.value) + size_of_headers(record.headers)
    )
    return _BATCH_HEADER_BYTES + _varint_bytes(body) + body


def size_of_headers(headers: Mapping[str, bytes]) -> int:
    """Return the size of headers including their count, in bytes."""
    size = _varint_bytes(len(headers))
    for name, value in headers.items():
        size += size_of_header(name, value)
    return size


def size_of_header(name: str, value: bytes) -> int:
    """Return the size of one header, in bytes."""
    name_bytes = len(name) if name.isascii() else len(name.encode(errors="replace"))
    return _varint_bytes(name_bytes) + name_bytes + _field_bytes(value)


def _field_bytes(value: bytes | None) -> int:
    """Return the size of a length-prefixed value; a missing one has the length -1."""
    return 1 if value is None else _varint_bytes(len(value)) + len(value)


def _varint_bytes(number: int) -> int:
    """Return the size of a non-negative varint: seven bits per byte, and one bit for the sign."""
    return number.bit_length() // 7 + 1
