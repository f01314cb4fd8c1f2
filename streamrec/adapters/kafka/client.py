"""Configuration and error handling shared by all Kafka clients."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
from collections.abc import Callable
from contextvars import ContextVar
from operator import methodcaller
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from streamrec.environment import variable_name
from streamrec.errors import SettingsError, StreamrecError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Fault, Record, TopicPartition

PATIENT_FETCH_BYTES = 1_000_000
"""Bytes that a patient consumer waits for (`fetch.min.bytes`)."""

RECONNECT_S = 2
"""Maximum reconnect backoff: a broker that restarts on this machine is back within seconds."""

SAID_EVERY_S = 10.0
"""Interval between two log lines of the same kind from one client."""

BAD_HEADERS, UNREADABLE = "bad-headers", "unreadable"
"""Reasons for refusing records that the client cannot read: only headers, or a whole batch."""

headers_of: Callable[[Message], Any] = methodcaller("headers")
"""Called indirectly: the client may return a value although it has set an error, which CPython only checks in indirect
calls."""

_REFUSALS = {"_AUTHENTICATION", "_SSL"}

TOO_LARGE: frozenset[Any] = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
"""The same request must not be sent again unchanged."""

_OUR_FAULT: frozenset[Any] = TOO_LARGE | {
    # librdkafka's own codes have no other name
    KafkaError._INVALID_ARG,  # noqa: SLF001
    KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001
    KafkaError.INVALID_REQUIRED_ACKS,
}

_asks_why: ContextVar[bool] = ContextVar("asks_why", default=False)
_log = logging.getLogger("librdkafka")


class Sparing(logging.Filter):
    """Rate-limits log lines of a client by kind.

    A client whose broker is unavailable logs it twenty times per second.

    Parameters
    ----------
    monotonic_s
        Clock for the interval: setting back the wall clock must not silence a client.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        self._next_s: dict[tuple[object, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the line."""
        kind_and_client = record.args[:2] if isinstance(record.args, tuple) else ()
        now_s = self._monotonic_s()
        if now_s < self._next_s.get(kind_and_client, now_s):
            return False
        # forget clients that have been silent since: clients come and go
        self._next_s = {key: next_s for key, next_s in self._next_s.items() if next_s > now_s}
        self._next_s[kind_and_client] = now_s + SAID_EVERY_S
        return True


_log.addFilter(Sparing())


def client_id(pid: int) -> str:
    """Return the client id of a process on this host."""
    return f"streamrec-{socket.gethostname()}-{pid}"


def client_config(kafka: KafkaAccess) -> dict[str, Any]:
    """Return the configuration common to all clients.

    Raises
    ------
    SettingsError
        If a certificate or key cannot be used; the message names the variable.
    """
    tls_context(kafka)  # librdkafka's errors about files are less precise
    return _security(kafka) | {
        "bootstrap.servers": kafka.bootstrap,
        "client.id": client_id(os.getpid()),
        "logger": _log,
        "error_cb": _hear,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": RECONNECT_S * 1_000,
    }


def tls_context(kafka: KafkaAccess) -> ssl.SSLContext:
    """Return a TLS context, for clients that do not read files.

    Raises
    ------
    SettingsError
        If a certificate or key cannot be used; the message names the variable.
    """
    context = ssl.create_default_context()
    password = kafka.key_password.get_secret_value() if kafka.key_password else ""
    field = "kafka_ca_file"
    try:
        if kafka.ca_file:
            context = ssl.create_default_context(cafile=kafka.ca_file)
        field = "kafka_certificate_file"
        if kafka.certificate_file:
            # without a password OpenSSL would prompt on the terminal
            context.load_cert_chain(kafka.certificate_file, kafka.key_file, lambda: password)
    except OSError as error:
        raise SettingsError(f"{variable_name(field)}, or what belongs to it, cannot be used: {error}") from None
    return context


def _security(kafka: KafkaAccess) -> dict[str, Any]:
    """Return librdkafka's authentication settings."""
    settings = {
        "security.protocol": kafka.security_protocol,
        "ssl.ca.location": kafka.ca_file,
        "ssl.certificate.location": kafka.certificate_file,
        "ssl.key.location": kafka.key_file,
        "ssl.key.password": kafka.key_password and kafka.key_password.get_secret_value(),
    }
    if kafka.security_protocol.startswith("SASL"):
        settings |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.username,
            "sasl.password": kafka.password and kafka.password.get_secret_value(),
        }
    return {name: str(value) for name, value in settings.items() if value is not None}


def patience(patience_ms: int) -> dict[str, Any]:
    """Return the settings of a consumer that lets the broker accumulate records before it responds.

    This saves CPU for workers without latency requirements: the broker responds a few times per second.
    """
    return {"fetch.wait.max.ms": patience_ms, "fetch.min.bytes": PATIENT_FETCH_BYTES} if patience_ms else {}


def translate(error: KafkaError) -> StreamrecError:
    """Translate an error of librdkafka: transient unless only a code change can fix it.

    Errors that an operator can fix are transient, too: permissions, replicas, a missing topic, an outdated broker. An
    error that is fatal for the client is not: its process must restart.
    """
    if error.fatal() or error.code() in _OUR_FAULT:
        return StreamrecError(f"Kafka: {error.str()}")
    return TransientError(f"Kafka: {error.str()}")


def translate_exception(error: KafkaException, client: Consumer | AdminClient) -> StreamrecError:
    """Translate an exception of librdkafka, or return why the broker rejects the client, if it does."""
    return explain(error.args[0], client)


def explain(error: KafkaError, client: Consumer | Producer | AdminClient, *, patience_s: float = 0.0) -> StreamrecError:
    """Return why the broker rejects this client, if reported in time, else the translated error.

    librdkafka reports a wrong password separately from the failing call, which looks like an unavailable broker.
    """
    asking = _asks_why.set(True)
    end_s = time.monotonic() + patience_s
    try:
        client.poll(patience_s)
        while (left_s := end_s - time.monotonic()) > 0:
            client.poll(left_s)
    except TransientError as refusal:
        return refusal
    finally:
        _asks_why.reset(asking)
    return translate(error)


def _hear(error: KafkaError) -> None:
    """Handle errors that librdkafka reports during a poll; raised elsewhere, they would lose a record."""
    if _asks_why.get() and error.name() in _REFUSALS:
        raise translate(error)


def to_kafka(kafka: KafkaAccess, source: TopicPartition, offset: int = OFFSET_INVALID) -> KafkaPartition:
    """Return a partition with the broker's name of its topic."""
    return KafkaPartition(kafka.on_broker(source.topic), source.partition, offset)


def to_source(kafka: KafkaAccess, found: Message | KafkaPartition) -> TopicPartition:
    """Return the partition of a message or broker object by this installation's topic name; -1 if there is none."""
    topic, partition = (
        (found.topic, found.partition) if isinstance(found, KafkaPartition) else (found.topic(), found.partition())
    )
    return TopicPartition(kafka.own_name(topic or "") or topic or "", -1 if partition is None else partition)


def to_record(message: Message) -> Record:
    """Convert a message for the use cases; unreadable parts are omitted and reported as its fault."""
    offset, fault = message.offset(), None
    assert offset is not None
    try:
        headers = headers_of(message)
    except (ValueError, SystemError):  # a header name is not UTF-8
        headers = Fault(BAD_HEADERS, "the headers cannot be read: a header name is not UTF-8")
        # the client's invalid headers must not be used
        message.set_headers(headers)  # type: ignore[arg-type]  # accepts any object, and returns it from now on
    if type(headers) is Fault:
        headers, fault = None, headers
    return Record(
        offset,
        message.timestamp()[1],
        _bytes(message.key()),
        _bytes(message.value()),
        {pair[0]: pair[1] for pair in headers if isinstance(pair[1], bytes)} if headers else {},
        fault,
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
