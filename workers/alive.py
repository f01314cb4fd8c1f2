"""Answers whether the worker of this container is alive: `python -m workers.alive interests`.

A worker is alive while the broker counts it among its group: a process that hangs stops sending heartbeats and is
dropped, one that waits for a store that is away is not.
"""

from __future__ import annotations

import socket
import sys

from streamrec.adapters.kafka.members import member_hosts
from streamrec.errors import StreamrecError
from streamrec.settings import Settings


def alive(settings: Settings, worker: str, host: str) -> bool:
    """Return whether a member of the worker's group is connected from this address."""
    return host in member_hosts(settings.require_kafka(), f"streamrec-{worker}")


def main() -> int:
    """Answer 0 for a live worker, 1 for any other."""
    try:
        return 0 if alive(Settings.from_env(), sys.argv[1], socket.gethostbyname(socket.gethostname())) else 1
    except StreamrecError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
