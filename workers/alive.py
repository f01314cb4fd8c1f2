"""Liveness probe of the worker in this container: `python -m workers.alive interests`.

A worker is alive while it is a member of its group: a hanging process stops sending heartbeats and is removed, one that
waits for an unavailable store is not. A paused worker is always alive, since a restart would not help. With `--ready`
it must not have paused itself either, so that the rollout of a bad release stops.
"""

from __future__ import annotations

import argparse
import socket
import sys

from streamrec.adapters.kafka.members import member_hosts
from streamrec.errors import StreamrecError
from streamrec.settings import Settings
from workers.readiness import why_paused
from workers.runtime import GROUP_PREFIX


def alive(settings: Settings, worker: str, host: str) -> bool:
    """Return whether a member of the worker's group is connected from this address."""
    return host in member_hosts(settings.require_kafka(), GROUP_PREFIX + worker)


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the worker is alive (and ready, if requested), else 1."""
    parser = argparse.ArgumentParser(prog="workers.alive", description=__doc__.partition("\n")[0])
    parser.add_argument("worker")
    parser.add_argument("--ready", action="store_true", help="also fail if the worker has paused itself")
    asked = parser.parse_args(arguments)
    because = why_paused(GROUP_PREFIX + asked.worker)
    if because is not None:
        sys.stderr.write(f"paused: {because}\n")
        return int(asked.ready)
    try:
        host = socket.gethostbyname(socket.gethostname())
        return 0 if alive(Settings.from_env(), asked.worker, host) else 1
    except StreamrecError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
