"""`streamrec adopt`: which stores this installation works with from now on."""

from __future__ import annotations

from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import Json, console, print_json
from workers.identity import store_checks


def adopt(as_json: Json = False) -> None:
    """Work with the stores at the configured addresses from now on.

    Each store holds a random identity, and the broker knows those that this installation works with: workers refuse any
    other store. After all workers have been stopped, this makes the broker take the identities of the Redis, PostgreSQL
    and checkpoint directory that the settings name.

    Example: STREAMREC_REDIS_URL=redis://new:6379/0 streamrec adopt
    """
    adopted = {name: check.adopt() for name, check in store_checks(resolved_settings()).items()}
    if as_json:
        print_json(adopted)
        return
    for name, identity in adopted.items():
        console().print(f"{name}: {identity}")
