"""The claim on a directory of checkpoints: of all trainers that share it one writes, the others stand by."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import structlog

from streamrec.errors import StreamrecError

LOCK = "lock"
"""Name of the file in the directory."""

_log = structlog.get_logger(__name__)


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Wait until no other process has claimed this directory, and keep it until the end: one writes, others stand by.

    The system gives the claim of a process up when that ends, in whatever way.

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
