"""Liveness probe of the worker in this container: `python -m workers.alive interests`.

A worker is alive while it is a member of its group: a hanging process stops sending heartbeats and is removed, one that
waits for an unavailable store is not. A paused worker is always alive, since a restart would not help. With `--ready`
it must not have paused itself either, so that the rollout of a bad release stops. The
monitor is in no group: it is alive while it answers.
"""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from urllib.request import urlopen

from streamrec.adapters.kafka.members import member_hosts
from streamrec.errors import StreamrecError
from streamrec.settings import Settings
from workers.readiness import why_paused
from workers.runtime import GROUP_PREFIX

MONITOR = "monitor"
MONITOR_TIMEOUT_S = 5.0


def alive(settings: Settings, worker: str, host: str) -> bool:
    """Return whether a member of the worker's group is connected from this address."""
    return host in member_hosts(settings.require_kafka(), GROUP_PREFIX + worker)


def answers(monitor_port: int) -> bool:
    """Return whether the monitor of this host answers."""
    try:
        with urlopen(f"http://127.0.0.1:{monitor_port}/healthz", timeout=MONITOR_TIMEOUT_S):
            return True
    except OSError:
        return False


def own_worker(command: Path = Path("/proc/1/cmdline")) -> str | None:
    """Return which worker the first process of this container runs, or `None` if it runs something else."""
    words = command.read_text().split("\0")
    return words[words.index("worker") + 1] if "worker" in words[:-1] else None


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the worker is alive (and ready, if requested), else 1."""
    parser = argparse.ArgumentParser(prog="workers.alive", description=__doc__.partition("\n")[0])
    parser.add_argument("worker", nargs="?", help="by default, the worker that the container runs")
    parser.add_argument("--ready", action="store_true", help="also fail if the worker has paused itself")
    asked = parser.parse_args(arguments)
    worker = asked.worker or own_worker()
    if worker is None:
        return 0  # nothing here that could stall
    if worker == MONITOR:  # which is in no group
        return 0 if answers(Settings.from_env().monitor_port) else 1
    because = why_paused(GROUP_PREFIX + worker)
    if because is not None:
        sys.stderr.write(f"paused: {because}\n")
        return int(asked.ready)
    try:
        host = socket.gethostbyname(socket.gethostname())
        return 0 if alive(Settings.from_env(), worker, host) else 1
    except StreamrecError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
