"""Headers: where the data is, and what a dead letter says of itself."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

MAX_MESSAGE_BYTES = 1_024


class DeadLetterHeaders(Struct, frozen=True, kw_only=True):
    """Headers of a dead letter, beside the original ones; key and value are the original bytes.

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

    def encode(self) -> dict[str, bytes]:
        """Return the headers as Kafka takes them."""
        return {f"dlq.{name}": str(getattr(self, name)).encode() for name in self.__struct_fields__}
