"""Finds the end of records that the client cannot read, so that consumption continues after them.

librdkafka reports a batch that it cannot unpack with the offset of its first record, and then fetches the same batch
again and again without reporting its end. The search probes later offsets in doubling steps, then bisects: while the
client reports the same batch, the probe lies inside it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from confluent_kafka import KafkaError

SILENCE_S = 5.0
"""If nothing arrives from an offset for this long, it counts as readable: the log may end with transaction markers. If
that is wrong, the same error is reported again, and nothing was skipped."""

# librdkafka's own codes have no other name
UNREADABLE_CODES: frozenset[int] = frozenset(
    {
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001
        KafkaError._BAD_MSG,  # noqa: SLF001
        KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001  # a codec or format that this build does not support
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
"""Permanent errors at one position of a partition; readable records may follow."""


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
        The highest offset known to be in the batch.
    beyond
        The lowest offset known to be beyond it: initially the end of the log.
    because
        Error of the client.
    since_s
        Monotonic time of the seek to the probe.

    Examples
    --------
    >>> search = begin(first=0, batch=0, end=100, because="bad")  # a batch that ends at offset 4
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
        """The next offset to probe: twice the known length, at most half of the remaining range."""
        twice, half = 2 * self.last - self.first + 1, (self.last + self.beyond + 1) // 2
        return max(self.last + 1, min(twice, half))

    @property
    def is_over(self) -> bool:
        """Whether the end is known."""
        return self.beyond == self.last + 1

    @property
    def is_silent(self) -> bool:
        """Whether the probe has timed out."""
        return time.monotonic() - self.since_s > SILENCE_S

    def failed(self, named: int) -> Search:
        """Return the search after an error at the probe that names this offset."""
        if named == self.batch and self.batch < self.probe:
            return replace(self, last=self.probe, since_s=time.monotonic())
        return self.succeeded()  # another unreadable batch, handled when it is reached

    def succeeded(self) -> Search:
        """Return the search after the probe turned out to be beyond this batch."""
        return replace(self, beyond=self.probe, since_s=time.monotonic())


def begin(*, first: int, batch: int, end: int, because: str) -> Search:
    """Start the search for the end of a batch in a log that ends at `end`."""
    return Search(first, batch, first, max(end, first + 1), because, time.monotonic())
