"""The checkpoints of one trainer: written in a separate thread, and read only if intact."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import structlog

from streamrec.errors import StreamrecError
from streamrec.model.training import checkpoint
from streamrec.model.training.checkpoint import DamagedCheckpointError

Saved = tuple[dict[str, np.ndarray], dict[str, bytes]]
"""Arrays and documents in a checkpoint."""

_log = structlog.get_logger(__name__)


class Archive:
    """Writes and reads the checkpoints in a directory.

    Parameters
    ----------
    directory
        Directory of the checkpoints.

    Attributes
    ----------
    failures
        Number of failed checkpoints since the start.
    failing
        Why the latest one could not be written; empty on success.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.failures = 0
        self.failing = ""
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._writing: Future[int] | None = None
        if others := checkpoint.foreign(directory):
            _log.warning("ignoring unknown files", path=str(directory), ignored=others[:10], count=len(others))

    @property
    def numbers(self) -> list[int]:
        """Numbers of the existing checkpoints, oldest first."""
        return checkpoint.numbers(self.directory)

    def begin(self, number: int, contents: Mapping[str, bytes], *, kept: Collection[int]) -> None:
        """Start writing a checkpoint; see :func:`streamrec.model.training.checkpoint.write`."""
        self._writing = self._writer.submit(self._write, number, contents, kept)

    def wait(self) -> int:
        """Wait for the checkpoint in progress, and return its number if it failed, else 0."""
        if self._writing is None:
            return 0
        lost = self._writing.result()
        self._writing = None
        return lost

    def read(self, number: int) -> Saved:
        """Return the content of a checkpoint.

        Raises
        ------
        StreamrecError
            If it is damaged, of another format, or not readable.
        """
        return checkpoint.read(self.directory, number)

    def newest_whole(self) -> tuple[int, Saved] | None:
        """Set damaged checkpoints aside, and return the latest intact one, `None` if there are none.

        Raises
        ------
        DamagedCheckpointError
            If all checkpoints are damaged: restarting from scratch is left to the operator.
        StreamrecError
            If the latest intact one is of another format, or not readable.
        """
        damaged: dict[int, DamagedCheckpointError] = {}
        for number in reversed(self.numbers):
            try:
                saved = self.read(number)
            except DamagedCheckpointError as error:
                damaged[number] = error
                continue
            for each, fault in damaged.items():
                _log.error("checkpoint damaged", because=str(fault), instead=f"continuing from checkpoint {number}")
                checkpoint.set_aside(self.directory, each)
            return number, saved
        if damaged:
            raise damaged[max(damaged)]
        return None

    def arrays(self, number: int, *prefixes: str) -> list[dict[str, np.ndarray]] | None:
        """Return the arrays below each prefix; if the checkpoint cannot be read, log an error and return `None`."""
        try:
            return checkpoint.read_tensors(self.directory, number, *prefixes)
        except StreamrecError as error:
            _log.error("checkpoint unreadable", because=str(error))
            return None

    def is_whole(self, number: int) -> bool:
        """Return whether a checkpoint is intact; log an error if it is not."""
        if number not in self.numbers:
            return False
        try:
            checkpoint.check(self.directory, number)
        except StreamrecError as error:
            _log.error("checkpoint unreadable", because=str(error))
            return False
        return True

    def _write(self, number: int, contents: Mapping[str, bytes], kept: Collection[int]) -> int:
        """Write a checkpoint; errors such as a full disk are logged, and the next checkpoint may succeed."""
        try:
            checkpoint.write(self.directory, number, contents, kept=kept)
        except (OSError, StreamrecError) as error:
            self.failures += 1
            self.failing = str(error)
            _log.error(
                "checkpoint not written", path=str(self.directory), because=str(error), instead="training continues"
            )
            return number
        self.failing = ""
        return 0
