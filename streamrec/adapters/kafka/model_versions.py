"""Listing model versions and rolling back, with Kafka only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import msgspec
import structlog

from streamrec.adapters.kafka.broadcast import BroadcastReader
from streamrec.adapters.kafka.publisher import KafkaPublisher
from streamrec.contracts.decode import decode_own
from streamrec.contracts.model_version import ModelCommand, ModelVersion, ModelVersions
from streamrec.contracts.topics import MODEL_CONTROL, MODEL_VERSIONS
from streamrec.errors import BadRecordError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.ports import Outgoing

_POLL_S = 0.2
_TIMEOUT_S = 30.0
_decoder = msgspec.json.Decoder(ModelVersions)
_log = structlog.get_logger(__name__)


def read_model_versions(kafka: KafkaAccess, refused: Counter[tuple[str, str]] | None = None) -> ModelVersions | None:
    """Return the latest list of versions, `None` before the trainer has written one.

    Invalid records are skipped, and counted as `refused`, by topic and reason.

    Raises
    ------
    TransientError
        If the broker does not answer, or the topic does not exist yet.
    """
    with closing(BroadcastReader(kafka=kafka, topics=[MODEL_VERSIONS])) as reader:
        newest = _newest(reader)
        if refused is not None:
            refused.update(reader.refused)
        return newest


def roll_back(kafka: KafkaAccess, version: str, *, within_s: float) -> ModelVersion | None:
    """Ask the trainer to roll back to a version, and return the version it made from it, `None` on timeout.

    A stopped trainer executes the command when it runs again.

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
    """Return the latest list."""
    newest = None
    end_s = time.monotonic() + _TIMEOUT_S
    while not reader.caught_up:
        if time.monotonic() > end_s:
            raise TransientError(f"Kafka: {MODEL_VERSIONS} could not be read in {_TIMEOUT_S:g} s")
        newest = next(reversed(list(_lists(reader))), newest)
    return newest


def _lists(reader: BroadcastReader) -> Iterator[ModelVersions]:
    """Return new lists; the reader counts invalid records."""
    batch = reader.poll(_POLL_S)
    for source, record in batch or ():
        if record.value is None:
            continue
        try:
            yield decode_own(_decoder, record.value)
        except BadRecordError as error:
            _log.error("model versions refused", offset=record.offset, because=str(error))
            reader.refused[source.topic, error.reason] += 1
