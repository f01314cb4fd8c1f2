"""Checks of servers before a worker reads anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamrec.adapters.kafka import KafkaPublisher
from streamrec.service.largest_records import Need, require_room


def checked(
    publisher: KafkaPublisher, needs: Sequence[Need], store: Callable[[], Sequence[str]] = tuple
) -> Callable[[], Sequence[str]]:
    """Return a check of the topics' record size limits, and of the store."""

    def check() -> Sequence[str]:
        publisher.ask_again()
        require_room(publisher, needs)
        return store()

    return check
