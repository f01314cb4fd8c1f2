"""What the trainer broadcasts: a model version, whole (`snapshot`) or as what changed since the one before (`delta`).

A version is a set of named tensors in the safetensors format, cut into parts that fit a Kafka record. Readers collect
all parts of a version before any of it serves. A reader that starts late reads the topic from the beginning of what is
kept; what comes before the first snapshot is of no use to it, and every delta names the version it builds on.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

from streamrec.contracts.derived import Count, Offset, Partition, UnixMs
from streamrec.contracts.incoming import Id

MAX_PART_BYTES = 500_000
"""Raw bytes in a part: 667 kB as base64, well below the 1 MB that brokers take by default."""

MAX_PARTS = 20_000
"""10 GB: a reader holds all parts of a version before it serves."""


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
    """Index of this part; the parts of a version follow each other."""
    parts: Annotated[int, Meta(ge=1, le=MAX_PARTS)]
    """Number of parts of the version."""
    newest_produced_at_ms: UnixMs
    """Production time of the newest event that the version has learned: model freshness counts from here."""
    contains: list[tuple[Partition, Offset]] | None = None
    """Per partition of `user-interests` the next offset: the version has learned every record below it. Null from a
    trainer that does not say."""
    events: Count = 0
    """Number of events that the version has learned."""
    rollbacks: Rollbacks | None = None
    """Of the trainer before this version. Null from one that does not say."""
    payload: Annotated[bytes, Meta(max_length=MAX_PART_BYTES)]
    """Base64 of this part's bytes; all parts joined are one safetensors file."""
