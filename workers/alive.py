"""Answers whether the worker of this container is alive: `python -m workers.alive interests`.

A worker is alive while the broker counts it among its group: a process that hangs stops sending heartbeats and is
dropped, one that waits for an unavailable store is not. One that has paused itself is alive in any case: a restart
would mend nothing. With `--ready` it must also not have paused itself, so that no release is rolled out further.
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
    """Answer 0 for a live worker, that is ready where that is asked, and 1 for any other."""
    parser = argparse.ArgumentParser(prog="workers.alive", description=__doc__.partition("\n")[0])
    parser.add_argument("worker")
    parser.add_argument("--ready", action="store_true", help="ask also whether it has not paused itself")
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
