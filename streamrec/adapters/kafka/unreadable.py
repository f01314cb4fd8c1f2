"""Finding where records that the client cannot read end, so that reading continues behind them.

librdkafka reports a batch that it cannot unpack with the offset of the batch's first record, and then fetches the same
batch again, without end and without saying where it ends. The search tries later offsets in steps that double, and
narrows the rest down by halves: while the client names the same batch, the offset lies inside it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from confluent_kafka import KafkaError

SILENCE_S = 5.0
"""An offset behind which nothing arrives for so long is taken for readable: the log may end with the marks of a
transaction. Where that is wrong, the same error comes again, and nothing was passed over."""

# librdkafka's own codes have no other name
UNREADABLE_CODES: frozenset[int] = frozenset(
    {
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001
        KafkaError._BAD_MSG,  # noqa: SLF001
        KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001  # a codec or a format that this build does not know
        KafkaError._UNDERFLOW,  # noqa: SLF001
        KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001
        KafkaError.INVALID_MSG,  # the broker calls it CORRUPT_MESSAGE
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    }
)
"""Errors that a partition has at one place for good; behind it there may be records that can be read."""


@dataclass(frozen=True, slots=True)
class Search:
    """The search for the end of one unreadable batch.

    Parameters
    ----------
    first
        The first offset that cannot be read.
    batch
        The offset that the client names.
    last
        The highest offset that is known to belong to the batch.
    beyond
        The lowest offset that is known not to belong to it: at first the end of the log.
    because
        What the client says.
    since_s
        When the client was sent to the probe, by a clock that only goes forward.

    Examples
    --------
    >>> search = begin(first=0, batch=0, end=100, because="bad")  # of a batch that ends at offset 4
    >>> while not search.is_over:
    ...     search = search.failed(0) if search.probe <= 4 else search.succeeded()
    >>> search.last, search.probe
    (4, 5)
    """

    first: int
    batch: int
    last: int
    beyond: int
    because: str
    since_s: float

    @property
    def probe(self) -> int:
        """The next offset to read: twice as far as is known, at most half of the way that is left."""
        twice, half = 2 * self.last - self.first + 1, (self.last + self.beyond + 1) // 2
        return max(self.last + 1, min(twice, half))

    @property
    def is_over(self) -> bool:
        """Whether the end is known."""
        return self.beyond == self.last + 1

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come from the probe for long."""
        return time.monotonic() - self.since_s > SILENCE_S

    def failed(self, named: int) -> Search:
        """Return the search after the client could not read at the probe either, and named this offset."""
        if named == self.batch and self.batch < self.probe:
            return replace(self, last=self.probe, since_s=time.monotonic())
        return self.succeeded()  # another batch, for when reading gets there

    def succeeded(self) -> Search:
        """Return the search after something else than this batch was found at the probe."""
        return replace(self, beyond=self.probe, since_s=time.monotonic())


def begin(*, first: int, batch: int, end: int, because: str) -> Search:
    """Return the search for the end of a batch in a log that ends at `end`."""
    return Search(first, batch, first, max(end, first + 1), because, time.monotonic())
