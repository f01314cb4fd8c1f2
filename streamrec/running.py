"""Finding the local stack that runs in another terminal, so that commands need no addresses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from streamrec.settings import Settings

_FILE = "stack.json"


@contextmanager
def announced(directory: Path, addresses: Mapping[str, str]) -> Iterator[None]:
    """Say where the servers of this process are while it runs them, in a file that this user alone can read."""
    file = directory / _FILE
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as announcement:
        json.dump({"pid": os.getpid(), "addresses": dict(addresses)}, announcement)
    try:
        yield
    finally:
        file.unlink()


def find_running(settings: Settings) -> Settings | None:
    """Return the settings with the addresses of the stack that runs on their data directory, or `None` without one.

    Addresses that are set already stay.
    """
    try:
        announcement = json.loads((settings.data_dir.expanduser() / _FILE).read_text())
    except FileNotFoundError:
        return None
    if not psutil.pid_exists(announcement["pid"]):
        return None  # it was killed, and could not take its announcement back
    return settings.with_addresses(announcement["addresses"])
