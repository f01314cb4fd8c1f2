"""Lock on a checkpoint directory: of the trainers sharing it one writes, the others stand by."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import structlog

from streamrec.errors import StreamrecError

LOCK = "lock"
"""Name of the lock file."""

_log = structlog.get_logger(__name__)


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Wait for the lock on this directory, and hold it until the process ends: one writes, others stand by.

    The operating system releases the lock when the process ends, in whatever way.

    Raises
    ------
    StreamrecError
        If the directory cannot be written.
    """
    with _claim_file(root) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("standing by", because=f"another process writes {root}")
            fcntl.flock(lock, fcntl.LOCK_EX)
            _log.info("taking over", path=str(root))
        yield


def _claim_file(root: Path) -> BinaryIO:
    try:
        root.mkdir(parents=True, exist_ok=True)
        return (root / LOCK).open("wb")
    except OSError as error:
        raise StreamrecError(f"{root} cannot be used for checkpoints: {error}") from None
