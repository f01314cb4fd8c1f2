"""`streamrec adopt`: register stores with an installation."""

from __future__ import annotations

from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import Json, console, print_json
from workers.identity import store_checks


def adopt(as_json: Json = False) -> None:
    """Register the configured stores with this installation.

    Each store holds a random identity, and the topic `store-identities` registers those that this installation works
    with: workers refuse any other store. Stop all workers first; this command then registers the Redis, the PostgreSQL
    and the checkpoint directory that the settings name.

    Example: STREAMREC_REDIS_URL=redis://new:6379/0 streamrec adopt
    """
    adopted = {name: check.adopt() for name, check in store_checks(resolved_settings()).items()}
    if as_json:
        print_json(adopted)
        return
    for name, identity in adopted.items():
        console().print(f"{name}: {identity}")
