"""Records that the client cannot read completely, simulated by a test double of the message.

Brokers accept header names that are not UTF-8, for which the client raises on reading the headers. No client writes
such names, so readers of a chaos run treat records with a marker header as if they had one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from confluent_kafka import Message

from streamrec.adapters.kafka import client
from streamrec.service.batch import Record

MARK = "x-chaos-undecodable"
"""Name of the marker header."""


class _Undecodable:
    """A message whose headers cannot be read."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def __getattr__(self, name: str) -> object:
        return getattr(self._message, name)

    def headers(self) -> None:
        """Raise the client's error."""
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def to_record(message: Message, read: Callable[[Message], Record] = client.to_record) -> Record:
    """Convert a message for the use cases; with the marker, as if its headers could not be read."""
    is_marked = any(header[0] == MARK for header in client.headers_of(message) or ())
    return read(_Undecodable(message) if is_marked else message)  # type: ignore[arg-type]  # a double


def plant() -> None:
    """Patch every reader of this process to treat such records as unreadable."""
    for name, module in list(sys.modules.items()):
        reads = name.startswith("streamrec.adapters") and getattr(module, "to_record", None) is client.to_record
        if reads and module is not client:
            module.to_record = to_record  # type: ignore[attr-defined]  # it has one
