"""Headers: what a dead letter says of itself, and the trace that a record belongs to."""

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
    """Topic, partition and offset of the original name the dead letter: a second copy has the same."""
    timestamp: int
    """When the original was produced, Unix milliseconds."""
    reason: str
    """Class of the fault, one of a few short words."""
    message: Annotated[str, Meta(max_length=MAX_MESSAGE_BYTES)]
    """What exactly is wrong."""
    stage: str
    """The worker that refused it."""
    app_version: str
    cut: str = ""
    """Present if the record did not fit: which of `headers`, `key` and `value` are not whole, separated by commas."""
    key_bytes: int = 0
    """Size of the original key; this and the next two are present if the record was cut."""
    value_bytes: int = 0
    """Size of the original value."""
    headers_bytes: int = 0
    """Size of the original headers."""

    def encode(self) -> dict[str, bytes]:
        """Return the headers as Kafka takes them."""
        names = self.__struct_fields__ if self.cut else self.__struct_fields__[: -len(OF_CUT_RECORDS)]
        return {f"dlq.{name}": str(getattr(self, name)).encode() for name in names}


OF_CUT_RECORDS = ("cut", "key_bytes", "value_bytes", "headers_bytes")
"""The last fields of :class:`DeadLetterHeaders`, which only the letter of a record that did not fit has."""


TRACE_HEADERS = ("traceparent", "tracestate")
"""The trace that a producer's record belongs to (https://www.w3.org/TR/trace-context): handed on as it came, by way of
`user-interests` to the list."""

MAX_TRACE_BYTES = 512
"""The standard asks for no more; a longer value is left out."""


def traced(headers: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what headers say of a trace.

    Examples
    --------
    >>> traced({"traceparent": b"00-1-2-01", "content-type": b"application/json"})
    {'traceparent': b'00-1-2-01'}
    """
    if not headers:
        return {}
    return {name: headers[name] for name in TRACE_HEADERS if 0 < len(headers.get(name, b"")) <= MAX_TRACE_BYTES}
