"""Whether a worker is ready: it is not while it has paused itself, and a file says so to whoever probes its host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

import psutil

_SUFFIX = ".paused"


@contextmanager
def paused(app_id: str, because: str) -> Iterator[None]:
    """Say that this process has paused, and why, for as long as it has."""
    file = Path(gettempdir()) / f"{app_id}-{os.getpid()}{_SUFFIX}"
    file.unlink(missing_ok=True)  # of a process that was killed and had our id
    # made anew and not followed: anybody may write where temporary files are
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as marker:
        marker.write(because)
    try:
        yield
    finally:
        file.unlink()


def why_paused(app_id: str) -> str | None:
    """Return why a process of this worker on this host has paused, `None` if none has."""
    for file in Path(gettempdir()).glob(f"{app_id}-*{_SUFFIX}"):
        if psutil.pid_exists(int(file.stem.rpartition("-")[2])):
            return file.read_text()
    return None
