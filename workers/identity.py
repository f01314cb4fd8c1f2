"""Checks that a worker's stores belong to its installation."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

from streamrec.adapters.kafka.identities import KafkaIdentityRegister
from streamrec.adapters.kafka.members import has_members
from streamrec.service.ports import IdentifiedStore
from streamrec.service.store_identity import StoreIdentityCheck
from streamrec.settings import Settings

GROUPS = {
    "Redis": ("streamrec-interests", "streamrec-recall"),
    "PostgreSQL": ("streamrec-retention",),
    "checkpoints": ("streamrec-trainer",),
}
"""The consumer groups whose effects are in a store, by its name."""


def store_check(settings: Settings, store: IdentifiedStore) -> StoreIdentityCheck:
    """Return the check of a store."""
    kafka = settings.require_kafka()
    return StoreIdentityCheck(
        store,
        KafkaIdentityRegister(kafka),
        in_use=partial(has_members, kafka, GROUPS[store.name]),
        make_identity=lambda: uuid4().hex,
    )
