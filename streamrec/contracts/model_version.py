"""Which model versions the trainer keeps, and how to send it back to one of them.

Versions on `model-updates` come every half second and are not kept. Those that are kept, named like the version that
served when their checkpoint was written, stand in one record that is always whole.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from streamrec.contracts.derived import Count, UnixMs
from streamrec.contracts.incoming import Id

Status = Literal["serving", "new", "good", "refused", "rolled back"]


class ModelVersion(Struct, frozen=True, kw_only=True):
    """A version that was kept or refused."""

    name: Id
    made_at_ms: UnixMs
    events: Count
    """Events that it has learned, all that came before it included."""
    status: Status
    """`serving`: the newest one, what serves goes on from it. `new`: not yet proven. `good`: a full window of events
    showed that it is no worse than the good one before it. `refused`: failed the check before serving, was never
    published. `rolled back`: worse than an older one, or sent back by hand."""
    loss: float | None
    """Mean loss of what served on the newest tested events when it was made, in nats; null before any."""
    checkpoint: Count
    """Number of its checkpoint on the trainer's disk; 0 where there is none, and nothing to roll back to."""
    went_on_from: str
    """The version that was rolled back to when this one was made, else empty."""
    because: str
    """Why it was refused or rolled back, else empty."""


class ModelVersions(Struct, frozen=True, kw_only=True):
    """All versions that the trainer remembers. Topic `model-versions`, compacted, one key: the newest record counts."""

    versions: list[ModelVersion]
    """Oldest first."""
    refused: Count
    """Versions refused since the first start; likewise the next two."""
    rolled_back: Count
    """Rollbacks."""
    drifts: Count
    """Changes of the stream that the detector reported."""


class ModelCommand(Struct, frozen=True, kw_only=True):
    """An order to the trainer. Topic `model-control`, one partition, no key; each is obeyed once."""

    roll_back_to: Id
    """Name of the version to go on from."""
    asked_at_ms: UnixMs
