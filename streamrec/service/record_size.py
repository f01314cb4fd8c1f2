"""How large a record is on its way to Kafka, as the broker measures it against `max.message.bytes`."""

from __future__ import annotations

from collections.abc import Mapping

from streamrec.service.ports import Outgoing

_BATCH_HEADER_BYTES = 61
"""A record travels in a batch, and the broker measures the batch: here the record is alone in it."""

_RECORD_FIELDS_BYTES = 3
"""Attributes, and the differences of time and offset to the batch's own, which are 0 for its first record."""


def size_of(record: Outgoing) -> int:
    """Return the size of a record that travels alone, uncompressed, in bytes.

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
    """Return what headers add to a record, their number included, in bytes."""
    size = _varint_bytes(len(headers))
    for name, value in headers.items():
        size += size_of_header(name, value)
    return size


def size_of_header(name: str, value: bytes) -> int:
    """Return what one header adds to a record, in bytes."""
    name_bytes = len(name) if name.isascii() else len(name.encode(errors="replace"))
    return _varint_bytes(name_bytes) + name_bytes + _field_bytes(value)


def _field_bytes(value: bytes | None) -> int:
    """Return the size of a value with its length in front; a missing one has the length -1."""
    return 1 if value is None else _varint_bytes(len(value)) + len(value)


def _varint_bytes(number: int) -> int:
    """Return the size of a number that is not negative: seven bits per byte, and one bit for the sign."""
    return number.bit_length() // 7 + 1
