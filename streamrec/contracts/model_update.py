"""Model versions that the trainer broadcasts, complete (`snapshot`) or as changes to the previous one (`delta`).

A version is a set of named tensors in the safetensors format, split into parts that fit in a Kafka record. Readers
collect all parts of a version before it serves. A new reader reads the topic from its earliest offset and ignores
everything before the first snapshot; every delta names the version it builds on.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

from streamrec.contracts.derived import Count, Offset, Partition, UnixMs
from streamrec.contracts.incoming import Id

MAX_PART_BYTES = 500_000
"""Raw bytes per part: 667 kB as base64, well below the brokers' default limit of 1 MB."""

MAX_PARTS = 20_000
"""10 GB: readers hold all parts of a version in memory before it serves."""


class Rollbacks(NamedTuple):
    """How often the trainer was rolled back, and to where."""

    times: Count
    to_events: Count
    """Number of events that the version had learned that it returned to last."""


class ModelUpdate(Struct, frozen=True, kw_only=True):
    """A part of a model version. Topic `model-updates`, one partition, no key."""

    kind: Literal["snapshot", "delta"]
    model_version: Id
    base_version: Annotated[str, Meta(max_length=256)]
    """The version that a delta builds on; empty in a snapshot."""
    part: Annotated[int, Meta(ge=0, lt=MAX_PARTS)]
    """Index of this part; the parts of a version are consecutive."""
    parts: Annotated[int, Meta(ge=1, le=MAX_PARTS)]
    """Number of parts of the version."""
    newest_produced_at_ms: UnixMs
    """Production time of the newest event that the version has learned: model freshness is measured from here."""
    contains: list[tuple[Partition, Offset]] | None = None
    """Next offset per partition of `user-interests`: the version has learned every record below it. Null from trainers
    that do not report it."""
    events: Count = 0
    """Number of events that the version has learned."""
    rollbacks: Rollbacks | None = None
    """Of the trainer before this version. Null from one that does not say."""
    payload: Annotated[bytes, Meta(max_length=MAX_PART_BYTES)]
    """This part's bytes in base64; the concatenated parts are one safetensors file."""
