"""`streamrec adopt`: register stores with an installation."""

from __future__ import annotations

from streamrec.adapters.directory_identity import DirectoryIdentity
from streamrec.adapters.postgres.identity import PostgresIdentity
from streamrec.adapters.redis.identity import RedisIdentity
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import Json, console, print_json
from streamrec.service.ports import IdentifiedStore
from streamrec.settings import Settings
from workers.identity import store_check


def adopt(as_json: Json = False) -> None:
    """Register the configured stores with this installation.

    Each store holds a random identity, and the topic `store-identities` registers those that this installation works
    with: workers refuse any other store. Stop all workers first; this command then registers the Redis, the PostgreSQL
    and the checkpoint directory that the settings name.

    Example: STREAMREC_REDIS_URL=redis://new:6379/0 streamrec adopt
    """
    settings = resolved_settings()
    adopted = {store.name: store_check(settings, store).adopt() for store in _stores(settings)}
    if as_json:
        print_json(adopted)
        return
    for name, identity in adopted.items():
        console().print(f"{name}: {identity}")


def _stores(settings: Settings) -> list[IdentifiedStore]:
    """Return the stores in the settings."""
    stores: list[IdentifiedStore] = [DirectoryIdentity(settings.checkpoint_dir)]
    if settings.redis_url is not None:
        stores.append(RedisIdentity(settings.require_redis_url(), installation=settings.installation))
    if settings.postgres_url is not None:
        stores.append(PostgresIdentity(settings.require_postgres_url(), installation=settings.installation))
    return stores
