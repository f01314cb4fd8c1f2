"""Checks that a worker's stores belong to its installation."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

from streamrec.adapters.directory_identity import DirectoryIdentity
from streamrec.adapters.kafka.identities import KafkaIdentityRegister
from streamrec.adapters.kafka.members import has_members
from streamrec.adapters.postgres.identity import PostgresIdentity
from streamrec.adapters.redis.identity import RedisIdentity
from streamrec.service.ports import IdentifiedStore
from streamrec.service.store_identity import StoreIdentityCheck
from streamrec.settings import Settings

REDIS_GROUPS = ("streamrec-interests", "streamrec-recall")
POSTGRES_GROUPS = ("streamrec-retention",)
CHECKPOINT_GROUPS = ("streamrec-trainer",)


def store_checks(settings: Settings) -> dict[str, StoreIdentityCheck]:
    """Return the check of every store in the settings, by name."""
    checks = {"checkpoints": checkpoint_check(settings)}
    if settings.redis_url is not None:
        checks[RedisIdentity.name] = redis_check(settings)
    if settings.postgres_url is not None:
        checks[PostgresIdentity.name] = postgres_check(settings)
    return checks


def redis_check(settings: Settings) -> StoreIdentityCheck:
    """Return the check of Redis."""
    store = RedisIdentity(settings.require_redis_url(), installation=settings.installation)
    return _check(settings, store, REDIS_GROUPS)


def postgres_check(settings: Settings) -> StoreIdentityCheck:
    """Return the check of PostgreSQL."""
    store = PostgresIdentity(settings.require_postgres_url(), installation=settings.installation)
    return _check(settings, store, POSTGRES_GROUPS)


def checkpoint_check(settings: Settings) -> StoreIdentityCheck:
    """Return the check of the trainer's checkpoint directory."""
    return _check(settings, DirectoryIdentity(settings.checkpoint_dir), CHECKPOINT_GROUPS)


def _check(settings: Settings, store: IdentifiedStore, groups: tuple[str, ...]) -> StoreIdentityCheck:
    kafka = settings.require_kafka()
    return StoreIdentityCheck(
        store,
        KafkaIdentityRegister(kafka),
        in_use=partial(has_members, kafka, groups),
        make_identity=lambda: uuid4().hex,
    )
