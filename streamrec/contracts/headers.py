"""Headers of dead letters, and trace context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

MAX_MESSAGE_BYTES = 1_024


class DeadLetterHeaders(Struct, frozen=True, kw_only=True):
    """Headers of a dead letter, beside the original ones; key and value are the original bytes unless `dlq.cut` is set.

    On the wire each is a header `dlq.<name>` with a UTF-8 value. Numbers are decimal.
    """

    topic: str
    partition: int
    offset: int
    """Topic, partition and offset of the original identify the dead letter: a duplicate has the same."""
    timestamp: int
    """When the original was produced, Unix milliseconds."""
    reason: str
    """Category of the error, one of a few short names."""
    message: Annotated[str, Meta(max_length=MAX_MESSAGE_BYTES)]
    """The exact error."""
    stage: str
    """The worker that refused the record."""
    app_version: str
    cut: str = ""
    """Present if the record did not fit: which of `headers`, `key` and `value` were shortened, separated by commas."""
    key_bytes: int = 0
    """Size of the original key; this and the next two are present if the record was shortened."""
    value_bytes: int = 0
    """Size of the original value."""
    headers_bytes: int = 0
    """Size of the original headers."""

    def encode(self) -> dict[str, bytes]:
        """Return the headers in the Kafka client's format."""
        names = self.__struct_fields__ if self.cut else self.__struct_fields__[: -len(OF_CUT_RECORDS)]
        return {f"dlq.{name}": str(getattr(self, name)).encode() for name in names}


OF_CUT_RECORDS = ("cut", "key_bytes", "value_bytes", "headers_bytes")
"""The last fields of :class:`DeadLetterHeaders`, present only in the dead letter of a record that did not fit."""


TRACE_HEADERS = ("traceparent", "tracestate")
"""Trace context of a producer's record (https://www.w3.org/TR/trace-context), propagated unchanged through
`user-interests` to the list."""

MAX_TRACE_BYTES = 512
"""The standard requires no more; a longer value is dropped."""


def traced(headers: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the trace context in headers.

    Examples
    --------
    >>> traced({"traceparent": b"00-1-2-01", "content-type": b"application/json"})
    {'traceparent': b'00-1-2-01'}
    """
    if not headers:
        return {}
    return {name: headers[name] for name in TRACE_HEADERS if 0 < len(headers.get(name, b"")) <= MAX_TRACE_BYTES}
