"""The processes of a chaos run: workers and servers, which are restarted after they died."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

from streamrec.chaos.faults import ASLEEP_S, FROZEN_S, PLANTED_EVERY
from streamrec.chaos.patience import PATIENCE_S
from streamrec.chaos.planted import BUGS
from streamrec.errors import StreamrecError
from streamrec.local import Stack
from streamrec.local.supervisor import leave_group

LOOK_S = 0.2

MAX_PROCESSES = 3
"""Maximum number of processes per worker."""


SERVERS = KAFKA, REDIS, POSTGRES = "kafka", "redis_url", "postgres_url"
"""The settings that name the servers."""


class Worker(NamedTuple):
    """A worker's process, and the crash or bug injected into it."""

    name: str
    process: subprocess.Popen[bytes]
    plant: str | None


@dataclass(slots=True)
class Cast:
    """All processes of a run.

    Parameters
    ----------
    stack
        The servers.
    log_dir
        Directory of worker logs.
    workers
        Running processes, and those that exited and are to be replaced.
    """

    stack: Stack
    log_dir: Path
    workers: list[Worker] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    """Log files of all workers ever started."""
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _sleepers: list[threading.Thread] = field(default_factory=list)
    _supervisors: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.log_dir.mkdir()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop all workers."""
        self.wake_all()
        for process in self._started:
            process.kill()
            process.wait()

    def start(self, name: str, *, plant: str | None = None) -> None:
        """Start a worker, with an injected crash or bug if given."""
        process = self._spawn(name, "streamrec.chaos.worker", name, plant or "", str(PLANTED_EVERY))
        self._names.add(name)
        self._started.append(process)
        self.workers.append(Worker(name, process, plant))

    def start_supervised(self, name: str) -> None:
        """Start another process of a worker under a supervisor, and suspend the supervisor, as Ctrl-Z would.

        The supervisor exits with its worker soon after it is resumed.
        """
        logs = self.log_dir / f"supervised-{len(self._supervisors)}"
        supervisor = self._spawn(f"{name}-supervisor", "streamrec.chaos.supervised", name, str(logs))
        self._started.append(supervisor)
        self._supervisors.append(supervisor)

        def stop_for_a_while() -> None:
            log, end_s = logs / f"{name}.log", time.monotonic() + PATIENCE_S
            while not (log.exists() and log.stat().st_size) and time.monotonic() < end_s:
                time.sleep(LOOK_S)  # it has not started its worker yet
            supervisor.send_signal(signal.SIGSTOP)
            time.sleep(ASLEEP_S)
            supervisor.send_signal(signal.SIGCONT)
            supervisor.terminate()

        self._sleepers.append(threading.Thread(target=stop_for_a_while, name="stop-supervisor"))
        self._sleepers[-1].start()

    def _spawn(self, log_name: str, *module: str) -> subprocess.Popen[bytes]:
        return self.stack.guardian.spawn(
            [sys.executable, "-m", *module],
            log=self.log_dir / f"{log_name}.log",
            env={**os.environ, **self.stack.settings.environment()},
        )

    def kill(self, name: str, rng: random.Random) -> None:
        """Kill one of a worker's processes."""
        self._choose(name, rng).process.kill()

    def plant(self, name: str, place: str, rng: random.Random) -> None:
        """Replace one of a worker's processes with one that crashes at a given point."""
        victim = self._choose(name, rng)
        self.workers.remove(victim)
        victim.process.kill()
        victim.process.wait()
        self._leave_group(victim)
        self.start(name, plant=place)

    def sleep(self, name: str, rng: random.Random) -> None:
        """Freeze one of a worker's processes for longer than its session timeout."""
        sleeper = self._choose(name, rng).process
        sleeper.send_signal(signal.SIGSTOP)
        self._wake_after(ASLEEP_S, partial(sleeper.send_signal, signal.SIGCONT))

    def freeze(self, address: str) -> None:
        """Freeze a server for a while: its clients wait for answers."""
        server = psutil.Process(self.stack.servers[address].process.pid)
        # PostgreSQL has a process per client
        frozen = [server, *server.children(recursive=True)]
        for process in frozen:
            _unless_gone(process.suspend)
            self._wake_after(FROZEN_S, partial(_unless_gone, process.resume))

    @property
    def sleeps(self) -> bool:
        """Whether a process is still frozen, or a supervisor has not exited yet."""
        return any(sleeper.is_alive() for sleeper in self._sleepers) or any(
            supervisor.poll() is None for supervisor in self._supervisors
        )

    def wake_all(self) -> None:
        """Wait until every frozen process has resumed."""
        for sleeper in self._sleepers:
            sleeper.join()

    def add(self, name: str) -> None:
        """Start another process of a worker, up to the maximum."""
        if self._count(name) < MAX_PROCESSES:
            self.start(name)

    def remove(self, name: str, rng: random.Random) -> None:
        """Stop one of a worker's processes gracefully, unless it is the last."""
        if self._count(name) < 2:
            return
        worker = self._choose(name, rng)
        self.workers.remove(worker)
        worker.process.terminate()

    def stop(self, name: str) -> None:
        """Stop all processes of a worker gracefully."""
        leaving = [worker for worker in self.workers if worker.name == name]
        for worker in leaving:
            self.workers.remove(worker)
            worker.process.terminate()
        for worker in leaving:
            worker.process.wait(PATIENCE_S)

    def replace_dead(self) -> None:
        """Restart each worker that exited or was killed: with its bug, but without its injected crash."""
        for worker in list(self.workers):
            if worker.process.poll() is not None:
                self.workers.remove(worker)
                self._leave_group(worker)
                self.start(worker.name, plant=worker.plant if worker.plant in BUGS else None)

    def _leave_group(self, worker: Worker) -> None:
        """Remove a dead worker from its group, as a supervisor does."""

        def leave() -> None:
            with suppress(StreamrecError):  # the broker has failed, too: the member times out
                leave_group(self.stack.settings, worker.name, worker.process.pid)

        threading.Thread(target=leave, name="leave-group", daemon=True).start()

    def pids(self) -> list[tuple[str, int]]:
        """Return name and process id of each running worker."""
        return [(worker.name, worker.process.pid) for worker in list(self.workers) if worker.process.poll() is None]

    def ended(self) -> int:
        """Return the number of workers that exited by themselves."""
        return sum(worker.process.poll() is not None for worker in self.workers)

    def assignments(self) -> dict[str, int]:
        """Return the number of partition assignments of each worker so far, from their logs."""
        return {name: (self.log_dir / f"{name}.log").read_text().count('"event": "assigned"') for name in self._names}

    def wait_until_assigned(self) -> None:
        """Wait until every started worker has partitions."""
        give_up_s = time.monotonic() + PATIENCE_S
        while waiting := [name for name, count in self.assignments().items() if not count]:
            # the first start on a machine compiles loops, which takes minutes where cores are slow or busy
            if time.monotonic() > give_up_s or self.ended():
                last_words = "\n".join((self.log_dir / f"{name}.log").read_text()[-1_000:] for name in waiting)
                raise StreamrecError(f"workers have not started: {', '.join(waiting)}\n{last_words}")
            time.sleep(LOOK_S)

    def _wake_after(self, seconds: float, wake: Callable[[], None]) -> None:
        self._sleepers.append(threading.Timer(seconds, wake))
        self._sleepers[-1].start()

    def has(self, name: str) -> bool:
        """Return whether a worker has joined its group."""
        return bool(self._count(name))

    def _count(self, name: str) -> int:
        return sum(worker.name == name for worker in self.workers)

    def _choose(self, name: str, rng: random.Random) -> Worker:
        return rng.choice([worker for worker in self.workers if worker.name == name])

    def restart(self, address: str, damage: Callable[[Path], None] | None = None) -> None:
        """Kill a server and restart it on its data."""
        self.kill_server(address)
        if damage:
            damage(self.stack.settings.data_dir)
        self.start_server(address)

    def kill_server(self, address: str) -> None:
        """Kill the server that this setting names."""
        self.stack.servers[address].process.kill()
        self.stack.servers[address].process.wait()

    def start_server(self, address: str) -> None:
        """Restart it on its data."""
        self.stack.start(address)


def _unless_gone(act: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        act()
