"""Supervises servers and workers as processes: start, logs, restart after a crash, and shutdown."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from streamrec.adapters.kafka.departures import leave_for
from streamrec.adapters.kafka.lag import GROUPS
from streamrec.errors import StreamrecError
from streamrec.local.stack import Stack
from streamrec.metrics import find_endpoints
from streamrec.settings import Settings

WORKERS = ("interests", "trainer", "recall", "retention")

MAX_BACKOFF_S = 30.0
HEALTHY_S = 60.0
"""A process that lived this long is restarted immediately when it dies."""

LOOK_S = 0.5
PATIENCE_S = 15.0

MAX_DEATHS = 3
"""Maximum number of exits of a worker before all have started."""

STOP_TIMEOUT_S = 15.0

LOG = "supervisor.log"


class Supervisor:
    """Keeps servers and workers running until the context exits.

    Parameters
    ----------
    stack
        Servers of the workers; those that keep their data are restarted when they die.
    log_dir
        Directory of the workers' logs: `NAME.log`, or `NAME-NUMBER.log` for several workers of a name. Crashes and
        restarts are logged in `supervisor.log`.
    workers
        Workers to run; a name may occur several times.
    """

    def __init__(self, stack: Stack, log_dir: Path, workers: Sequence[str] = WORKERS) -> None:
        self._stack = stack
        self._environment = {**os.environ, **stack.settings.environment(), "PYTHONFAULTHANDLER": "1"}
        self._log_dir = log_dir
        self._stopping = threading.Event()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._restarts: Counter[str] = Counter()
        self._telling = threading.Lock()
        self._names = list(workers)
        self._keepers = [
            threading.Thread(target=self._keep_worker, args=(slot, name, log_name), name=f"keep-{log_name}")
            for slot, (name, log_name) in enumerate(zip(workers, _log_names(workers), strict=True))
        ]
        # a thread waiting for a server's recovery does not prevent this process from exiting
        self._server_keepers = [
            threading.Thread(target=self._keep_server, args=(name,), name=f"keep-{name}", daemon=True)
            for name in stack.durable
        ]

    @property
    def restarts(self) -> int:
        """Number of restarts by server or worker."""
        return self._restarts.total()

    def pids(self) -> dict[str, list[int]]:
        """Return the process ids of the running workers, by name."""
        found: dict[str, list[int]] = {}
        for slot, process in list(self._running.items()):
            found.setdefault(self._names[slot], []).append(process.pid)
        return found

    def wait_until_started(self, say: Callable[[str], None]) -> None:
        """Wait until every worker has started, while they are alive: on a slow machine this takes minutes.

        Parameters
        ----------
        say
            Called with the workers that are still starting, after `PATIENCE_S`.

        Raises
        ------
        StreamrecError
            If they keep dying; the message names their logs.
        """
        told_s = time.monotonic() + PATIENCE_S
        while starting := self._starting():
            if self.restarts >= MAX_DEATHS:
                raise StreamrecError(f"{', '.join(starting)}: failed to start; see the logs in {self._log_dir}")
            if time.monotonic() > told_s:
                say(f"still starting: {', '.join(starting)}; compiling takes minutes")
                told_s = math.inf
            time.sleep(LOOK_S)

    def _starting(self) -> list[str]:
        """Return the names of workers that do not serve metrics yet."""
        serving = Counter(endpoint.worker for endpoint in find_endpoints(self._stack.settings))
        return sorted(Counter(self._names) - serving)

    def __enter__(self) -> Self:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        self._stack.guardian.bound(self._log_dir / LOG)
        for thread in (*self._server_keepers, *self._keepers):
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop the workers with SIGTERM, and with SIGKILL after a timeout."""
        self._stopping.set()
        for process in list(self._running.values()):
            process.terminate()
        end_s = time.monotonic() + STOP_TIMEOUT_S
        for thread in (*self._keepers, *self._server_keepers):
            thread.join(max(0.0, end_s - time.monotonic()))
        for process in list(self._running.values()):
            process.kill()
        for thread in self._keepers:
            thread.join()

    def command(self, worker: str) -> list[str]:
        """Return the command that runs a worker."""
        return [sys.executable, "-m", "streamrec", "worker", worker]

    def _keep_worker(self, slot: int, name: str, log_name: str) -> None:
        """Run one worker, restarting it when it exits."""

        def run() -> str:
            process = self._stack.guardian.spawn(
                self.command(name),
                log=self._log_dir / f"{log_name}.log",
                env=self._environment,
            )
            self._running[slot] = process
            if self._stopping.is_set():  # stopped while it was being started
                process.terminate()
            code = process.wait()
            del self._running[slot]
            if not self._stopping.is_set():  # concurrently with the next start, which takes longer
                threading.Thread(target=self._leave_group, args=(name, process.pid), daemon=True).start()
            return _end_of(code)

        for ended in self._again(name, run):
            self._take_note(name, ended)

    def _leave_group(self, name: str, pid: int) -> None:
        """Release the partitions of a dead worker before its session times out."""
        try:
            leave_group(self._stack.settings, name, pid)
        except StreamrecError as error:
            self._write("warning", f"the group of {name} waits for the dead member", because=str(error))

    def _keep_server(self, name: str) -> None:
        """Restart a server whenever it exits."""
        servers = self._stack.servers

        def run() -> str:
            code = servers[name].process.poll()
            if code is not None:
                self._stack.start(name)
            while (code := servers[name].process.poll()) is None and not self._stopping.wait(LOOK_S):
                pass
            return "" if code is None else _end_of(code)

        for ended in self._again(name, run):
            self._take_note(servers[name].name, ended)

    def _again(self, name: str, run: Callable[[], str]) -> Iterator[str]:
        """Run something repeatedly until stopped, with increasing delays on failure; yield how each run ended."""
        failures = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                ended = run()
            except (StreamrecError, OSError) as error:
                self._write("error", f"{name} cannot be started", because=str(error))
                ended = ""
            if self._stopping.is_set():
                break
            if ended:
                yield ended
            failures = 0 if time.monotonic() - started_s > HEALTHY_S else failures + 1
            self._stopping.wait(_backoff_s(failures))

    def _take_note(self, name: str, ended: str) -> None:
        """Count a restart, and announce it to other terminals."""
        with self._telling:
            self._restarts[name] += 1
            self._write("warning", f"{name} died and is restarted", because=ended, restarts=self._restarts[name])
            try:
                self._stack.announcement.tell(self._restarts)
            except OSError as error:
                self._write("error", "the announcement cannot be written", because=str(error))

    def _write(self, level: str, event: str, **details: str | int) -> None:
        """Append a line to the log; never to the terminal, which may be suspended."""
        line = {"event": event, "level": level, "timestamp": datetime.now(UTC).isoformat(), **details}
        # supervision continues on a full disk, whose effects servers and workers report
        with suppress(OSError), (self._log_dir / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")


def leave_group(settings: Settings, worker: str, pid: int) -> None:
    """Remove a dead worker from its consumer group, if it has one.

    Raises
    ------
    StreamrecError
        If the broker does not answer.
    """
    group = f"streamrec-{worker}"
    if group in GROUPS and settings.kafka is not None:
        leave_for(settings.require_kafka(), group, pid)


def _backoff_s(failures: int) -> float:
    """Return the delay after this many consecutive failures."""
    return min(MAX_BACKOFF_S, 0.25 * 2.0 ** min(failures, 10)) if failures else 0.0


def _log_names(workers: Sequence[str]) -> list[str]:
    """Return a unique log name for each worker."""
    seen: Counter[str] = Counter()
    names = []
    for name in workers:
        seen[name] += 1
        names.append(name if workers.count(name) == 1 else f"{name}-{seen[name]}")
    return names


def _end_of(code: int) -> str:
    """Describe how a process ended."""
    return f"killed by signal {-code}" if code < 0 else f"exited with code {code}"
