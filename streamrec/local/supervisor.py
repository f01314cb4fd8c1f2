"""The workers as processes: started, logged, started again when they die, and stopped together."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Self

from streamrec.local.stack import Stack

WORKERS = ("interests", "trainer", "recall", "retention")

MAX_LOG_BYTES = 10_000_000
MAX_BACKOFF_S = 30.0
HEALTHY_S = 60.0
"""A worker that lived so long is started again at once when it dies."""

STOP_TIMEOUT_S = 15.0


class Supervisor:
    """Keeps workers running until it is left.

    Parameters
    ----------
    stack
        The servers that the workers use.
    log_dir
        Where each worker's log goes, `NAME.log`, with one older file of the same size at most.
    workers
        Which workers to run; a name may come several times.
    """

    def __init__(self, stack: Stack, log_dir: Path, workers: Sequence[str] = WORKERS) -> None:
        self._environment = {**os.environ, **stack.settings.environment()}
        self._guardian = stack.guardian
        self._log_dir = log_dir
        self._stopping = threading.Event()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._restarts = 0
        self._threads = [
            threading.Thread(target=self._keep, args=(slot, name), name=f"keep-{name}")
            for slot, name in enumerate(workers)
        ]
        self._names = list(workers)

    @property
    def restarts(self) -> int:
        """How often a worker died and was started again."""
        return self._restarts

    def pids(self) -> dict[str, list[int]]:
        """Return the process ids of the workers that run, by name."""
        found: dict[str, list[int]] = {}
        for slot, process in list(self._running.items()):
            found.setdefault(self._names[slot], []).append(process.pid)
        return found

    def __enter__(self) -> Self:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop the workers with SIGTERM, and with SIGKILL those that do not end in time."""
        self._stopping.set()
        for process in list(self._running.values()):
            process.terminate()
        end_s = time.monotonic() + STOP_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        for process in list(self._running.values()):
            process.kill()
        for thread in self._threads:
            thread.join()

    def _keep(self, slot: int, name: str) -> None:
        """Run one worker again and again."""
        log = RotatingFileHandler(self._log_dir / f"{name}.log", maxBytes=MAX_LOG_BYTES, backupCount=1)
        failures = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            self._run(slot, name, log)
            if self._stopping.is_set():
                break
            self._restarts += 1
            failures = 0 if time.monotonic() - started_s > HEALTHY_S else failures + 1
            self._stopping.wait(min(MAX_BACKOFF_S, 0.25 * 2.0**failures))
        log.close()

    def _run(self, slot: int, name: str, log: RotatingFileHandler) -> None:
        process = self._guardian.spawn(
            [sys.executable, "-m", "streamrec", "worker", name], output=subprocess.PIPE, env=self._environment
        )
        self._running[slot] = process
        if self._stopping.is_set():  # asked to stop while it was being started
            process.terminate()
        assert process.stdout is not None
        for line in process.stdout:
            log.emit(logging.makeLogRecord({"msg": line.decode(errors="replace").rstrip("\n")}))
        process.wait()
        process.stdout.close()
        del self._running[slot]
