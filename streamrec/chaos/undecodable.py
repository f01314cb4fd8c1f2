"""Records that the client cannot read all of, without any that is harmful: a double of the message raises.

Brokers accept a header whose name is not UTF-8, and the client raises when the headers are asked for. No client writes
such a name, so that a record with a mark in its headers is taken for one by every reader of a chaos run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from confluent_kafka import Message

from streamrec.adapters.kafka import client
from streamrec.service.batch import Record

MARK = "x-chaos-undecodable"
"""Name of the header that marks such a record."""


class _Undecodable:
    """A message whose headers cannot be read."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def __getattr__(self, name: str) -> object:
        return getattr(self._message, name)

    def headers(self) -> None:
        """Raise what the client raises."""
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def to_record(message: Message, read: Callable[[Message], Record] = client.to_record) -> Record:
    """Return a message as the use cases see it, one with the mark as if its headers could not be read."""
    is_marked = any(header[0] == MARK for header in client.headers_of(message) or ())
    return read(_Undecodable(message) if is_marked else message)  # type: ignore[arg-type]  # a double


def plant() -> None:
    """Have every reader of this process take such records for what they stand for."""
    for name, module in list(sys.modules.items()):
        reads = name.startswith("streamrec.adapters") and getattr(module, "to_record", None) is client.to_record
        if reads and module is not client:
            module.to_record = to_record  # type: ignore[attr-defined]  # it has one
