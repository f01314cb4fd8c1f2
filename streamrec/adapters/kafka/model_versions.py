"""Which model versions there are, and sending the trainer back to one, for somebody who has Kafka alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import msgspec

from streamrec.adapters.kafka.broadcast import BroadcastReader
from streamrec.adapters.kafka.publisher import KafkaPublisher
from streamrec.contracts.model_version import ModelCommand, ModelVersion, ModelVersions
from streamrec.contracts.topics import MODEL_CONTROL, MODEL_VERSIONS
from streamrec.errors import TransientError
from streamrec.service.ports import Outgoing
from streamrec.settings import KafkaAccess

_POLL_S = 0.2
_TIMEOUT_S = 30.0
_decoder = msgspec.json.Decoder(ModelVersions)


def read_model_versions(kafka: KafkaAccess) -> ModelVersions | None:
    """Return the newest list of versions, `None` before the trainer has written one.

    Raises
    ------
    TransientError
        If the broker does not answer, or the topic does not exist yet.
    """
    with closing(BroadcastReader(kafka=kafka, topics=[MODEL_VERSIONS])) as reader:
        return _newest(reader)


def roll_back(kafka: KafkaAccess, version: str, *, within_s: float) -> ModelVersion | None:
    """Ask the trainer to go back to a version, and return the one it made from it, `None` if it did not in time.

    A trainer that does not run obeys when it runs again.

    Raises
    ------
    TransientError
        If the broker does not answer, or a topic does not exist yet.
    """
    with closing(BroadcastReader(kafka=kafka, topics=[MODEL_VERSIONS])) as reader:
        known = _newest(reader)
        rollbacks = known.rolled_back if known else 0
        command = ModelCommand(roll_back_to=version, asked_at_ms=time.time_ns() // 1_000_000)
        KafkaPublisher(kafka).publish([Outgoing(MODEL_CONTROL, None, msgspec.json.encode(command))])
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            for versions in _lists(reader):
                made = [kept for kept in versions.versions if kept.checkpoint]
                if versions.rolled_back > rollbacks and made[-1].went_on_from == version:
                    return made[-1]
    return None


def _newest(reader: BroadcastReader) -> ModelVersions | None:
    """Return the newest list of all that are there."""
    newest = None
    end_s = time.monotonic() + _TIMEOUT_S
    while not reader.caught_up:
        if time.monotonic() > end_s:
            raise TransientError(f"Kafka: {MODEL_VERSIONS} could not be read in {_TIMEOUT_S:g} s")
        newest = next(reversed(list(_lists(reader))), newest)
    return newest


def _lists(reader: BroadcastReader) -> Iterator[ModelVersions]:
    """Return the lists that have come."""
    batch = reader.poll(_POLL_S)
    for _, record in batch or ():
        if record.value is not None:
            yield _decoder.decode(record.value)
