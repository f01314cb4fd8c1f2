"""Encoding of model versions as records of `model-updates`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import structlog
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streamrec.contracts.decode import decode_own
from streamrec.contracts.model_update import MAX_PART_BYTES, ModelUpdate, Rollbacks
from streamrec.errors import BadRecordError
from streamrec.model.ranking.serving import ServingModel

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ModelUpdate)
_log = structlog.get_logger(__name__)

_NO_VERSION = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors raised by invalid tensors: others can write to the topic, too."""

_HALF_WIDTH = ("neighbours.weights", "linear.weights")


class Learned(NamedTuple):
    """What a version has learned.

    Attributes
    ----------
    newest_produced_at_ms
        Production time of the newest event in it.
    events
        Number of events in it.
    contains
        Next offset by partition of `user-interests`: every record below it is learned. `None` if not reported.
    rollbacks
        How often the trainer was rolled back before, `None` where it does not say.
    """

    newest_produced_at_ms: int = 0
    events: int = 0
    contains: Mapping[int, int] | None = None
    rollbacks: Rollbacks | None = None


def to_records(
    kind: Literal["snapshot", "delta"],
    model_version: str,
    base_version: str,
    learned: Learned,
    changes: Mapping[str, np.ndarray],
) -> list[bytes]:
    """Return the records of one version, each within the broker's size limit."""
    contains = None if learned.contains is None else sorted(learned.contains.items())
    blob = save({name: np.asarray(_narrowed(name, value), order="C") for name, value in changes.items()})
    parts = -(-len(blob) // MAX_PART_BYTES)
    return [
        _encoder.encode(
            ModelUpdate(
                kind=kind,
                model_version=model_version,
                base_version=base_version,
                part=part,
                parts=parts,
                newest_produced_at_ms=learned.newest_produced_at_ms,
                contains=contains,
                events=learned.events,
                rollbacks=learned.rollbacks,
                payload=blob[part * MAX_PART_BYTES : (part + 1) * MAX_PART_BYTES],
            )
        )
        for part in range(parts)
    ]


def as_sent(changes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return changes as decoded by readers, including rounding."""
    return {name: _widened(_narrowed(name, value)) for name, value in changes.items()}


def not_finite(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the name of an array with NaN or infinite values, empty if there is none."""
    return next(
        (name for name, value in arrays.items() if value.dtype.kind == "f" and not np.isfinite(value).all()), ""
    )


class UpdateReader:
    """Collects the parts of versions and applies complete ones.

    The snapshot of the serving version is skipped. After a version that is incomplete, builds on a missing one, or
    contains NaN, updates wait for the next snapshot.
    """

    def __init__(self) -> None:
        self._parts: list[ModelUpdate] = []
        self.learned = Learned()
        """What the last applied version has learned."""

    def apply(self, value: bytes, model: ServingModel) -> ServingModel | None:
        """Process one record; return the new version if this record completes one that applies to `model`.

        Raises
        ------
        BadRecordError
            If the record is not an update, or the version that it completes is invalid.
        """
        update = decode_own(_decoder, value)
        serves = update.kind == "snapshot" and update.model_version == model.version
        if serves or not self._completes(update):
            return None
        blob = b"".join(part.payload for part in self._parts)
        self._parts = []
        if update.kind == "delta" and update.base_version != model.version:
            return None  # a gap, or before the first snapshot
        base = model if update.kind == "delta" else ServingModel()
        try:
            changes = load(blob)
            _check(changes)
            applied = base.applied(update.model_version, {n: _widened(v) for n, v in changes.items()})
        except (SafetensorError, *_NO_VERSION) as error:
            raise BadRecordError("bad-version", f"{update.model_version}: {error}") from error
        contains = None if update.contains is None else dict(update.contains)
        self.learned = Learned(update.newest_produced_at_ms, update.events, contains, update.rollbacks)
        return applied

    def _completes(self, update: ModelUpdate) -> bool:
        """Collect a part; return whether its version is complete."""
        if self._parts and (_of(update) != _of(self._parts[0]) or update.part != len(self._parts)):
            _log.warning("model version incomplete", model_version=self._parts[0].model_version)
            self._parts = []
        if update.part != len(self._parts):
            return False  # started in the middle of a version
        self._parts.append(update)
        return len(self._parts) == update.parts


def _of(update: ModelUpdate) -> tuple[str, str]:
    return update.model_version, update.kind


def _check(changes: Mapping[str, np.ndarray]) -> None:
    """Raise a `ValueError` that names the array that is not finite."""
    if broken := not_finite(changes):
        raise ValueError(f"{broken} is not finite")


def _narrowed(name: str, value: np.ndarray) -> np.ndarray:
    half = name in _HALF_WIDTH or name.startswith("dense.")
    return value.astype(np.float16) if half else value


def _widened(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype == np.float16 else value
