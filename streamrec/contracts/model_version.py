"""Model versions that the trainer keeps, and the command to roll back to one of them.

Versions on `model-updates` are published every half second and are not kept. Kept versions are named after the version
that served when their checkpoint was written; all of them are in one record, which is always complete.
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
    """Number of events learned, including those of all earlier versions."""
    status: Status
    """`serving`: the latest one, which serving versions build on. `new`: not proven yet. `good`: no worse than the
    previous good version over a full window of events. `refused`: failed the check before serving and was never
    published. `rolled back`: worse than an older version, or rolled back manually."""
    loss: float | None
    """Mean loss, in nats, of the serving version on the latest tested events when this one was made; null before any
    were tested."""
    checkpoint: Count
    """Number of its checkpoint on the trainer's disk; 0 if there is none to roll back to."""
    went_on_from: str
    """The version that was rolled back to when this one was made, else empty."""
    because: str
    """Why it was refused or rolled back, else empty."""


class ModelVersions(Struct, frozen=True, kw_only=True):
    """All versions that the trainer remembers. Topic `model-versions`, compacted, one key."""

    versions: list[ModelVersion]
    """Oldest first."""
    refused: Count
    """Number of versions refused since the first start; the next two fields also count from there."""
    rolled_back: Count
    """Rollbacks."""
    drifts: Count
    """Number of drifts reported by the detector."""


class ModelCommand(Struct, frozen=True, kw_only=True):
    """A command to the trainer. Topic `model-control`, one partition, no key; each is executed once."""

    roll_back_to: Id
    """Name of the version to roll back to."""
    asked_at_ms: UnixMs
