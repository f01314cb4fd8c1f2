"""What every client of the broker shares."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from streamrec.errors import StreamrecError, TransientError
from streamrec.service.batch import Record

PATIENT_FETCH_BYTES = 1_000_000
"""So much is together enough for a patient reader."""

_log = logging.getLogger("librdkafka")


def client_config(bootstrap: str) -> dict[str, Any]:
    """Return the settings that all clients need."""
    return {
        "bootstrap.servers": bootstrap,
        "logger": _log,
        "socket.keepalive.enable": True,
        # a broker that restarts on this machine is back within seconds
        "reconnect.backoff.max.ms": 2_000,
    }


def patience(patience_ms: int) -> dict[str, Any]:
    """Return the settings of a reader that lets the broker hold records back until many are together.

    Whoever nobody waits for costs everybody less that way: the broker answers a few times a second, not each time.
    """
    return {"fetch.wait.max.ms": patience_ms, "fetch.min.bytes": PATIENT_FETCH_BYTES} if patience_ms else {}


def translate(error: KafkaError) -> StreamrecError:
    """Return our error for one of librdkafka's: transient unless no later try can go through."""
    if error.fatal() or error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return StreamrecError(f"Kafka: {error.str()}")
    return TransientError(f"Kafka: {error.str()}")


def translate_exception(error: KafkaException) -> StreamrecError:
    """Return our error for an exception of librdkafka."""
    return translate(error.args[0])


def to_record(message: Message) -> Record:
    """Return a message as the use cases see it."""
    offset, headers = message.offset(), message.headers()
    assert offset is not None
    return Record(
        offset=offset,
        timestamp_ms=message.timestamp()[1],
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers={pair[0]: pair[1] for pair in headers if isinstance(pair[1], bytes)} if headers else {},
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
