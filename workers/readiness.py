"""Readiness of a worker: a paused worker writes a file for probes on its host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir

import psutil
import structlog

_SUFFIX = ".paused"

_log = structlog.get_logger(__name__)


@contextmanager
def paused(app_id: str, because: str) -> Iterator[None]:
    """Announce that this process has paused, and why; errors such as a full disk are only logged."""
    file = Path(gettempdir()) / f"{app_id}-{os.getpid()}{_SUFFIX}"
    try:
        _mark(file, because)
    except OSError as error:
        _log.warning("probes cannot see the pause", because=str(error))
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()


def _mark(file: Path, because: str) -> None:
    file.unlink(missing_ok=True)  # left by a killed process with our id
    # re-created instead of followed: temporary directories are world-writable
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as marker:
        marker.write(because)


def why_paused(app_id: str) -> str | None:
    """Return why a process of this worker on this host has paused, `None` if none has."""
    for file in Path(gettempdir()).glob(f"{app_id}-*{_SUFFIX}"):
        if psutil.pid_exists(int(file.stem.rpartition("-")[2])):
            with suppress(FileNotFoundError):  # it has just continued
                return file.read_text()
    return None
